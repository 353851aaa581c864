package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/farportio/farport/internal/hub/registry"
	"github.com/farportio/farport/internal/wire"
)

// Bounds of a request before anybody has signed in (security.md T28, T30).
const (
	headTimeout   = 10 * time.Second // TLS handshake, then request head
	bodyTimeout   = 20 * time.Second
	answerTimeout = time.Minute // from the request's head until the answer is written
	idleTimeout   = 3 * time.Minute
	maxHead       = 32 << 10
	maxBody       = 64 << 10
	maxBulk       = 1 << 20
)

// route is one thing the hub can be asked. Segments in braces stand for any one
// segment, whose decoded text the handler gets.
type route struct {
	method string
	path   string
	// needs is the right a caller must have, one of them where there are several;
	// 0 means that the handler itself knows who may.
	needs  registry.Right
	handle func(*Hub, http.ResponseWriter, *request)
}

// request is what a handler gets: who asks, and the parts of the path.
type request struct {
	*http.Request
	principal principal
	id        string // {id}: device, or stream at the streaming endpoint
	module    string // {module}
	name      string // {name}: of a stream, or a CA's fingerprint
	tracking  string // names the request in log and answer
}

// target is the name of the device or module in the path.
func (r *request) target() string { return wire.TargetName(r.id, r.module) }

// routes is everything the hub answers; what is not here does not exist.
var routes = []route{
	{"GET", wire.PathHealth, 0, (*Hub).health},
	{"GET", wire.PathCA, 0, (*Hub).caCertificate},
	{"GET", wire.PathMQTT, 0, (*Hub).mqttWebSocket},
	{"GET", wire.PathBridges + "{id}", 0, (*Hub).joinStream},
	{"GET", "/devices", registry.RegistryRead, (*Hub).listDevices},
	{"GET", "/devices/", registry.RegistryRead, (*Hub).listDevices},
	{"POST", "/devices", registry.RegistryWrite, (*Hub).bulk},
	{"POST", "/devices/query", registry.ServiceConnect, (*Hub).queryDevices}, // answers with twins
	{"GET", "/devices/{id}", registry.RegistryRead, (*Hub).getIdentity},
	{"PUT", "/devices/{id}", registry.RegistryWrite, (*Hub).putIdentity},
	{"DELETE", "/devices/{id}", registry.RegistryWrite, (*Hub).deleteIdentity},
	{"GET", "/devices/{id}/modules", registry.RegistryRead, (*Hub).listModules},
	{"GET", "/devices/{id}/modules/{module}", registry.RegistryRead, (*Hub).getIdentity},
	{"PUT", "/devices/{id}/modules/{module}", registry.RegistryWrite, (*Hub).putIdentity},
	{"DELETE", "/devices/{id}/modules/{module}", registry.RegistryWrite, (*Hub).deleteIdentity},
	{"GET", "/statistics/devices", registry.RegistryRead, (*Hub).deviceStatistics},
	{"GET", wire.PathStatistics, registry.ServiceConnect | registry.RegistryRead, (*Hub).serviceStatistics},
	{"GET", "/twins/{id}", registry.ServiceConnect, (*Hub).getTwin},
	{"PATCH", "/twins/{id}", registry.ServiceConnect, (*Hub).changeTwin},
	{"PUT", "/twins/{id}", registry.ServiceConnect, (*Hub).changeTwin},
	{"GET", "/twins/{id}/modules/{module}", registry.ServiceConnect, (*Hub).getTwin},
	{"PATCH", "/twins/{id}/modules/{module}", registry.ServiceConnect, (*Hub).changeTwin},
	{"PUT", "/twins/{id}/modules/{module}", registry.ServiceConnect, (*Hub).changeTwin},
	{"POST", "/twins/{id}/methods", registry.ServiceConnect, (*Hub).invokeMethod},
	{"POST", "/twins/{id}/modules/{module}/methods", registry.ServiceConnect, (*Hub).invokeMethod},
	{"POST", "/twins/{id}/streams/{name}", registry.ServiceConnect, (*Hub).initiate},
	{"POST", "/twins/{id}/modules/{module}/streams/{name}", registry.ServiceConnect, (*Hub).initiate},
	{"GET", wire.PathDeviceStreams, registry.ServiceConnect | registry.RegistryRead, (*Hub).streamingEndpoints},
	{"GET", wire.PathCAs, registry.Owner, (*Hub).listCAs},
	{"POST", wire.PathCAs, registry.Owner, (*Hub).registerCA},
	{"DELETE", wire.PathCAs + "/{name}", registry.Owner, (*Hub).removeCA},
}

func (h *Hub) newServer() *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHead,
		// "OPTIONS *" is a path like any other that the hub does not have.
		DisableGeneralOptionsHandler: true,
		// Strangers who give up a TLS handshake are no news.
		ErrorLog: log.New(logWriter{h.log}, "", 0),
	}
}

// logWriter passes on what net/http has to say. A recovered panic is an error,
// anything else a stranger's doing.
type logWriter struct{ log *slog.Logger }

func (l logWriter) Write(p []byte) (int, error) {
	text := strings.TrimSpace(string(p))
	level := slog.LevelDebug
	if strings.Contains(text, "panic") {
		level = slog.LevelError
	}
	l.log.Log(context.Background(), level, "http server", "err", text)
	return len(p), nil
}

// ServeHTTP finds the route by the path as it was sent: nothing is cleaned and
// nobody is redirected (security.md T40).
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req := &request{Request: r, tracking: newID()}
	if r.ContentLength != 0 {
		// A body has to come in time, also one that is not read: net/http reads on
		// until its end before the answer goes out.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) // the server's connections have deadlines
	}
	segments, ok := pathSegments(r.URL.EscapedPath())
	if !ok {
		h.refuse(w, req, wire.ErrArgumentInvalid, "the path has an empty, dotted or wrongly escaped segment")
		return
	}
	rt, methods := req.match(segments)
	switch {
	case rt == nil && len(methods) > 0:
		w.Header().Set("Allow", strings.Join(methods, ", ")) // RFC 9110 §15.5.6
		h.refuse(w, req, wire.ErrMethodNotAllowed, "this path does not take "+quote(r.Method))
		return
	case rt == nil:
		h.refuse(w, req, wire.ErrNotFound, "the hub has no such path")
		return
	}
	if rt.needs != 0 {
		var err error
		if req.principal, err = h.authenticateService(r, segments); err == nil {
			err = req.principal.may(rt.needs)
		}
		if err != nil {
			h.notAuthorized(w, req, err)
			return
		}
	}
	rt.handle(h, w, req)
}

// pathSegments splits an escaped path and decodes each segment once. A slash at
// the end gives an empty last segment, as GET /devices/ has.
func pathSegments(path string) ([]string, bool) {
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, p := range parts {
		text, err := url.PathUnescape(p)
		if err != nil || text == "." || text == ".." || strings.Contains(text, "/") || text == "" && i < len(parts)-1 {
			return nil, false
		}
		parts[i] = text
	}
	return parts, true
}

// match finds the route and fills in what its braces stand for. Where there is none
// for the method, it returns those that the path takes.
func (r *request) match(segments []string) (found *route, methods []string) {
	for i := range routes {
		pattern := strings.Split(strings.TrimPrefix(routes[i].path, "/"), "/")
		if !slices.EqualFunc(pattern, segments, func(p, s string) bool {
			return p == s || s != "" && strings.HasPrefix(p, "{")
		}) {
			continue
		}
		if routes[i].method != r.Method {
			methods = append(methods, routes[i].method)
			continue
		}
		for j, p := range pattern {
			switch p {
			case "{id}":
				r.id = segments[j]
			case "{module}":
				r.module = segments[j]
			case "{name}":
				r.name = segments[j]
			}
		}
		return &routes[i], nil
	}
	return nil, methods
}

// refuse answers with an error, and says in the log why.
func (h *Hub) refuse(w http.ResponseWriter, r *request, code wire.ErrorCode, message string) {
	h.refuseAfter(w, r, code, message, 0)
}

// refuseAfter is refuse for an error that says which time-out ran out.
func (h *Hub) refuseAfter(w http.ResponseWriter, r *request, code wire.ErrorCode, message string, timeout time.Duration) {
	h.log.Debug("request refused", "method", short(r.Method), "path", short(r.URL.EscapedPath()), "remote", r.RemoteAddr,
		"policy", r.principal.policy, "code", code.Number, "err", short(message), "tracking", r.tracking)
	wire.WriteError(w, code, message, r.tracking, timeout)
}

// notAuthorized answers a caller who may not. What was wrong is said only as far as
// the caller has shown to know the key (security.md T1, T9).
func (h *Hub) notAuthorized(w http.ResponseWriter, r *request, err error) {
	if broken, ok := errors.AsType[unavailable](err); ok {
		h.failed(w, r, broken)
		return
	}
	h.log.Warn("unauthorized", "method", short(r.Method), "path", short(r.URL.EscapedPath()), "remote", r.RemoteAddr, "err", err, "tracking", r.tracking)
	message := "the shared access signature is missing or not valid for this"
	if told, ok := errors.AsType[*denied](err); ok {
		message = told.Error()
	}
	wire.WriteError(w, wire.ErrUnauthorizedAccess, message, r.tracking, 0)
}

// failed answers for an error of the registry.
func (h *Hub) failed(w http.ResponseWriter, r *request, err error) {
	code, message := h.explain(r, err)
	h.refuse(w, r, code, message)
}

// explain turns an error of the registry into what the caller is told.
func (h *Hub) explain(r *request, err error) (wire.ErrorCode, string) {
	var invalid *registry.InvalidError
	what := "device " + quote(r.id)
	exists := wire.ErrDeviceExists
	if r.module != "" {
		what, exists = "module "+quote(r.target()), wire.ErrModuleExists
	}
	switch {
	case errors.As(err, &invalid):
		return wire.ErrArgumentInvalid, invalid.Error()
	case errors.Is(err, registry.ErrModuleNotFound):
		return wire.ErrModuleNotFound, "no " + what
	case errors.Is(err, registry.ErrNotFound):
		return wire.ErrDeviceNotFound, "no device " + quote(r.id)
	case errors.Is(err, registry.ErrExists):
		return exists, what + " exists already"
	case errors.Is(err, registry.ErrPrecondition):
		return wire.ErrPrecondition, what + " has changed since: its etag differs"
	case r.Context().Err() != nil: // the caller has gone
		return wire.ErrUnavailable, "request abandoned"
	}
	h.log.Error("registry", "device", escaped(r.target()), "err", err, "tracking", r.tracking)
	return wire.ErrUnavailable, "the registry cannot do this now; the hub's log says why"
}

// readBody reads a body of at most limit bytes. false means that the answer has been given.
func (h *Hub) readBody(w http.ResponseWriter, r *request, limit int64) ([]byte, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		h.refuse(w, r, wire.ErrMessageTooLarge, "the body is larger than "+strconv.FormatInt(tooLarge.Limit, 10)+" bytes")
		return nil, false
	}
	if err != nil {
		h.refuse(w, r, wire.ErrFormat, "the body did not come as announced, or not in time")
		return nil, false
	}
	return body, true
}

// readJSON reads a body of at most limit bytes into v. false means that the answer has
// been given.
func (h *Hub) readJSON(w http.ResponseWriter, r *request, limit int64, v any) bool {
	body, ok := h.readBody(w, r, limit)
	return ok && h.parseJSON(w, r, body, v)
}

// parseJSON reads a body that has come into v; numbers in it keep their text. false
// means that the answer has been given.
func (h *Hub) parseJSON(w http.ResponseWriter, r *request, body []byte, v any) bool {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	err := d.Decode(v)
	if _, more := d.Token(); err == nil && more != io.EOF {
		err = errors.New("something follows it")
	}
	if err != nil {
		h.refuse(w, r, wire.ErrFormat, "the body is not the JSON expected: "+short(err.Error()))
		return false
	}
	return true
}

func writeJSON(w http.ResponseWriter, v any) { writeJSONStatus(w, http.StatusOK, v) }

func writeJSONStatus(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own types
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client is gone if this fails
}

func (h *Hub) health(w http.ResponseWriter, _ *request) { _, _ = io.WriteString(w, "ok\n") }

func (h *Hub) caCertificate(w http.ResponseWriter, r *request) {
	if h.pinned == "" {
		h.refuse(w, r, wire.ErrNotFound, "this hub's certificate is not signed by a CA of its own")
		return
	}
	w.Header().Set("Content-Type", "application/x-pem-file")
	_, _ = w.Write(encodeCert(h.data.ca.cert.Raw))
}

func (h *Hub) mqttWebSocket(w http.ResponseWriter, r *request) { h.broker.ServeHTTP(w, r.Request) }

func (h *Hub) streamingEndpoints(w http.ResponseWriter, r *request) {
	writeJSON(w, wire.StreamingEndpoints{StreamingEndpoints: []string{"https://" + strings.TrimSuffix(h.names.address(r.Host), ":443")}})
}
