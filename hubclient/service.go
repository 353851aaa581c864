package hubclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/wire"
)

const (
	// callTimeout bounds a call that the hub can answer by itself.
	callTimeout = 30 * time.Second
	// maxAnswer bounds an answer's body in bytes, where maxDocument and maxList do not:
	// a twin may have 96 KiB of documents and a method's answer 128 KiB, longer still
	// where they are escaped, and a list a thousand identities.
	maxAnswer   = 64 << 10
	maxDocument = 1 << 20
	maxList     = 8 << 20
	// maxHeader bounds an answer's header in bytes.
	maxHeader = 32 << 10
	// idleTimeout is how long an unused connection is kept, idleConns how many
	// are: setting up that many streams at once must not cost new handshakes.
	idleTimeout = 90 * time.Second
	idleConns   = 64

	// serviceTokenLife is how long a service's SAS tokens are good for, and
	// serviceTokenRenew how long before their end a new one is made: clocks may
	// differ by credential.ClockGrace.
	serviceTokenLife  = time.Hour
	serviceTokenRenew = 2 * credential.ClockGrace
)

// Service speaks to a hub for somebody who wants to reach devices or keeps the
// identity registry. It is safe for concurrent use. What it may do is up to the
// shared access policy in its connection string.
type Service struct {
	hub  *hub
	http *http.Client

	mu    sync.Mutex
	token credential.Secret // good until renew
	renew time.Time
}

// NewService returns a Service for the hub and policy that cs names. It does no
// I/O. The caller closes it. A connection string of a device or module is an error.
func NewService(cs ConnectionString, o Options) (*Service, error) {
	if cs.IsDevice() {
		return nil, fmt.Errorf("connection string is for %s; a service needs one with SharedAccessKeyName", named(Target(cs)))
	}
	s := &Service{hub: newHub(cs, o, NewInstance())}
	s.http = &http.Client{
		Transport: &http.Transport{
			DialTLSContext:         s.hub.dialTLS,
			DisableCompression:     true,
			MaxIdleConnsPerHost:    idleConns,
			IdleConnTimeout:        idleTimeout,
			MaxResponseHeaderBytes: maxHeader,
		},
		// The token must not follow a redirect, and no hub sends one.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s, nil
}

// Close drops idle connections; streams and calls under way go on. It may be
// called twice and returns nil.
func (s *Service) Close() error {
	s.http.CloseIdleConnections()
	return nil
}

// What farport's service-proxy asks for unless told otherwise.
const (
	DefaultConnectTimeout  = wire.DefaultConnectTimeout
	DefaultResponseTimeout = wire.DefaultResponseTimeout
)

// OpenOptions say how long the hub waits for a device, and how a stream is kept.
type OpenOptions struct {
	// ConnectTimeout is how long to wait for a device that is offline; zero means
	// not at all.
	ConnectTimeout time.Duration
	// ResponseTimeout is how long to wait for the device's answer; zero means
	// DefaultResponseTimeout.
	ResponseTimeout time.Duration
	// Changed and Linger are as in AcceptOptions.
	Changed func(Change)
	Linger  time.Duration
}

// orDefault is o without the values that stand for others.
func (o OpenOptions) orDefault() OpenOptions {
	if o.ResponseTimeout <= 0 {
		o.ResponseTimeout = wire.DefaultResponseTimeout
	}
	o.ConnectTimeout = max(o.ConnectTimeout, 0)
	return o
}

// wait is how long the hub may take to answer.
func (o OpenOptions) wait() time.Duration {
	return o.ConnectTimeout + o.ResponseTimeout + wire.ClientSlack
}

// Open asks a target, DEVICE or DEVICE/MODULE, for a stream of that name and connects
// the service's leg. The caller closes the Stream. It waits for the hub for the sum of
// both time-outs and 15 s. Besides what every call can fail with, the errors are
// ErrStreamRejected, ErrDeviceOffline, ErrDeviceNotFound, ErrForeignEndpoint and
// ErrTimeout.
func (s *Service) Open(ctx context.Context, target, streamName string, o OpenOptions) (Stream, error) {
	leg, err := s.open(ctx, target, streamName, o)
	if err != nil {
		return nil, s.about("open stream to", target, err)
	}
	return leg, nil
}

func (s *Service) open(ctx context.Context, target, streamName string, o OpenOptions) (Stream, error) {
	if !wire.ValidStreamName(streamName) {
		return nil, fmt.Errorf("%s is %w of a stream", quote(streamName), ErrBadName)
	}
	o = o.orDefault()
	answer, err := s.onTarget(ctx, target, call{
		method: http.MethodPost,
		path:   wire.StreamPath(target, streamName),
		header: http.Header{
			http.CanonicalHeaderKey(wire.HeaderConnectTimeout):  {wire.FormatSeconds(o.ConnectTimeout)},
			http.CanonicalHeaderKey(wire.HeaderResponseTimeout): {wire.FormatSeconds(o.ResponseTimeout)},
			wire.HeaderStream: {s.hub.offer.Header()},
			// Not sent. It lets the transport repeat the call when the kept-alive
			// connection turns out to be dead; at worst a device's leg waits in vain.
			"Idempotency-Key": {},
		},
		timeout: o.wait(),
	})
	if err != nil {
		return nil, err
	}
	switch accepted := answer.Get(wire.HeaderIsAccepted); {
	case strings.EqualFold(accepted, wire.Rejected):
		return nil, ErrStreamRejected
	case !strings.EqualFold(accepted, wire.Accepted):
		return nil, fmt.Errorf("hub answered, but not whether the stream was accepted (%s: %s)", wire.HeaderIsAccepted, quote(accepted))
	}
	token := answer.Get(wire.HeaderStreamToken)
	endpoint, err := s.hub.checkEndpoint(answer.Get(wire.HeaderStreamURL), token)
	if err != nil {
		return nil, err
	}
	grant, ok := wire.ParseGrant(answer.Values(wire.HeaderStream), s.hub.offer)
	if !ok {
		return nil, fmt.Errorf("%w (%s: %s)", errGrant, wire.HeaderStream, quote(answer.Get(wire.HeaderStream)))
	}
	return s.hub.connect(ctx, endpoint, token, keep{grant, o.Changed, o.Linger})
}

// call is one request to the hub's HTTPS API.
type call struct {
	method  string
	path    string // escaped
	query   url.Values
	header  http.Header
	body    any           // sent as JSON, unless nil
	result  any           // JSON of the answer is read into it, unless nil
	limit   int64         // of the answer's body, in bytes; 0 means maxAnswer
	timeout time.Duration // 0 means callTimeout
}

// onTarget makes a call about one device or module.
func (s *Service) onTarget(ctx context.Context, target string, c call) (http.Header, error) {
	if !wire.ValidTarget(target) {
		return nil, fmt.Errorf("%s is %w of a device or module", quote(target), ErrBadName)
	}
	return s.do(ctx, c)
}

// do makes the call and returns the answer's header. An answer that is not 2xx is
// a *HubError.
func (s *Service) do(ctx context.Context, c call) (http.Header, error) {
	timeout := c.timeout
	if timeout == 0 {
		timeout = callTimeout
	}
	limited, cancel := context.WithTimeoutCause(ctx, timeout, &timeoutError{"answer from the hub", timeout})
	defer cancel()
	request, err := s.request(limited, c)
	if err != nil {
		return nil, err
	}
	answer, err := s.http.Do(request)
	if err != nil {
		return nil, s.callFailed(ctx, limited, err)
	}
	defer answer.Body.Close()
	limit := c.limit
	if limit == 0 {
		limit = maxAnswer
	}
	// Read to its end, or else the connection is not kept.
	body, err := io.ReadAll(io.LimitReader(answer.Body, limit+1))
	switch {
	case answer.StatusCode < 200 || answer.StatusCode > 299: // also without its whole body
		e := hubError(answer.StatusCode, answer.Header, body[:min(len(body), maxAnswer)])
		s.hub.logger.Debug("hub refused a call", "path", c.path, "status", e.Status, "name", e.Name, "tracking", e.TrackingID)
		return nil, e
	case err != nil:
		return nil, s.callFailed(ctx, limited, err)
	case int64(len(body)) > limit:
		return nil, fmt.Errorf("hub answered %d with more than %d bytes", answer.StatusCode, limit)
	}
	if c.result != nil {
		if err := json.Unmarshal(body, c.result); err != nil {
			return nil, fmt.Errorf("hub answered %d with something that is not the JSON asked for: %s", answer.StatusCode, quote(err.Error()))
		}
	}
	return answer.Header, nil
}

func (s *Service) request(ctx context.Context, c call) (*http.Request, error) {
	token, err := s.sas()
	if err != nil {
		return nil, err
	}
	query := url.Values{"api-version": {wire.APIVersionService}}
	for key, values := range c.query {
		query[key] = values
	}
	var body io.Reader
	if c.body != nil {
		text, err := json.Marshal(c.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, c.method, "https://"+s.hub.authority()+c.path+"?"+query.Encode(), body)
	if err != nil {
		return nil, err
	}
	for key, values := range c.header {
		request.Header[key] = values
	}
	request.Header.Set("Authorization", token.Reveal())
	request.Header.Set("User-Agent", s.hub.agent)
	request.Header.Set("Accept", "application/json")
	if c.body != nil {
		request.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	return request, nil
}

// callFailed says why there was no whole answer. limited is ctx with the call's own
// deadline.
func (s *Service) callFailed(ctx, limited context.Context, err error) error {
	if ctx.Err() != nil {
		return callerGaveUp(ctx)
	}
	if limited.Err() != nil {
		return context.Cause(limited)
	}
	if e, ok := errors.AsType[*hopError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // its text says again what was asked for
	}
	return s.hub.hopFailed(limited, hopHTTP, s.hub.cs.Address(), err)
}

// sas returns a token with a good part of its life before it.
func (s *Service) sas() (credential.Secret, error) {
	now := time.Now()
	s.mu.Lock()
	token, renew := s.token, s.renew
	s.mu.Unlock()
	if token != "" && now.Before(renew) {
		return token, nil
	}
	expires := now.Add(serviceTokenLife)
	token, err := s.hub.cs.SAS(expires)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	s.token, s.renew = token, expires.Add(-serviceTokenRenew)
	s.mu.Unlock()
	return token, nil
}
