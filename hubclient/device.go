package hubclient

import (
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// DefaultMQTTPort is where hubs listen for MQTT in TLS.
const DefaultMQTTPort = 8883

const (
	// deviceTokenLife is how long a device's SAS token is good for unless told
	// otherwise: what all SDKs use. Source: docs/protocol.md, SAS tokens.
	deviceTokenLife = time.Hour
	// maxRequests is how many stream requests, and how many answers to them, may
	// wait. Source: docs/security.md, Streams without end.
	maxRequests = 64
)

// Transport says what carries MQTT.
type Transport int

// The transports of a control connection.
const (
	MQTTWS Transport = iota // in a WebSocket, on the hub's HTTPS port
	MQTT                    // in TLS, on a port of its own
)

// DeviceOptions say how a device connects. The zero value works for a connection string
// with a key.
type DeviceOptions struct {
	Options
	Transport Transport
	// MQTTPort is the hub's port for Transport MQTT; zero means
	// DefaultMQTTPort.
	MQTTPort int
	// TokenLife is how long the SAS token, and so the connection, is good for; zero
	// means 1 h. It does not change a ready token in the connection string.
	TokenLife time.Duration
	// GetCertificate returns the certificate to sign in with, with its private key. It
	// is called for every DialDevice, so that a renewed one is taken then. It goes with
	// a connection string that says x509=true, and with no other.
	GetCertificate func() (*tls.Certificate, error)
	// Instance is what the streams of this control connection can be taken up again by.
	// A program that connects again as the same device gives the same one each time: from
	// a new one the hub concludes that the program was started anew, and ends the
	// streams that wait for the old one. nil makes one for this connection alone.
	Instance *Instance
}

// Device is one control connection, over which a device or module is asked for
// streams. It never connects again: whoever wants that dials another. It is safe
// for concurrent use.
type Device struct {
	hub      *hub
	client   mqtt.Client
	conn     *controlConn
	login    *login
	requests chan *StreamRequest
	answers  chan answer
	silent   chan struct{} // closed when no answer will be sent any more

	gone    chan struct{} // closed with err set
	stopped chan struct{} // closed when the library has nothing left running
	stop    func()        // closes stopped

	mu        sync.Mutex
	err       error
	listeners map[string]*listener // by stream name
	listened  bool                 // Listen has been called
	nexted    bool                 // Next has been called

	reports reports
}

// DialDevice connects as the device or module in cs and subscribes to stream
// requests; when it returns, the hub can ask for streams. ctx bounds the dialling
// only. The caller closes the Device. Errors are ErrUnauthorized when the hub
// refused the credentials, ErrUntrusted, ErrHubUnreachable and *HubError.
func DialDevice(ctx context.Context, cs ConnectionString, o DeviceOptions) (*Device, error) {
	d, err := dialDevice(ctx, cs, o)
	if err != nil {
		return nil, fmt.Errorf("connect %s to %s: %w", named(Target(cs)), strings.TrimSuffix(cs.Address(), ":443"), err)
	}
	return d, nil
}

func dialDevice(ctx context.Context, cs ConnectionString, o DeviceOptions) (*Device, error) {
	l, err := newLogin(cs, o)
	if err != nil {
		return nil, err
	}
	if o.Instance == nil {
		o.Instance = NewInstance()
	}
	h := newHub(cs, o.Options, o.Instance)
	conn, err := h.dialControl(ctx, o, l)
	if err != nil {
		return nil, orCallerGaveUp(ctx, err)
	}
	d := &Device{
		hub:      h,
		conn:     conn,
		login:    l,
		requests: make(chan *StreamRequest, maxRequests),
		answers:  make(chan answer, maxRequests),
		silent:   make(chan struct{}),
		gone:     make(chan struct{}),
		stopped:  make(chan struct{}),
	}
	d.stop = sync.OnceFunc(func() { close(d.stopped) })
	d.client = mqtt.NewClient(d.options())
	go d.sendAnswers()
	// Neither paho's CONNECT nor its SUBSCRIBE knows a context.
	inTime := context.AfterFunc(ctx, func() {
		d.end(callerGaveUp(ctx))
		conn.Close()
	})
	err = d.begin()
	if !inTime() || err != nil {
		d.Close()
		return nil, orCallerGaveUp(ctx, err)
	}
	return d, nil
}

// orCallerGaveUp returns err, unless it only shows that ctx has ended.
func orCallerGaveUp(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return callerGaveUp(ctx)
	}
	return err
}

// end notes why the connection is over; the first reason counts.
func (d *Device) end(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err = err
		close(d.gone)
	}
}

// Close ends the connection and its listeners, and waits until nothing of it is running,
// for some seconds at most. Streams go on. It may be called twice and returns nil.
func (d *Device) Close() error {
	d.end(net.ErrClosed)
	d.mu.Lock()
	listeners := slices.Collect(maps.Values(d.listeners))
	d.mu.Unlock()
	for _, l := range listeners {
		_ = l.Close() // never fails
	}
	d.client.Disconnect(uint(farewell.Milliseconds()))
	d.conn.Close()
	<-d.stopped
	<-d.silent
	return nil
}

// Done is closed when the connection is over.
func (d *Device) Done() <-chan struct{} { return d.gone }

// Err says why the connection is over: net.ErrClosed after Close, otherwise
// ErrHubUnreachable. It is nil while the connection stands.
func (d *Device) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// RenewAt is when another connection should replace this one, since the hub ends
// it with its token: a random time between 75 and 90 per cent of the token's life.
// Zero means never: a ready token cannot be renewed, and a certificate is good for
// years; a newer one is taken with the next connection.
func (d *Device) RenewAt() time.Time { return d.login.renewAt }

// Next waits for a stream request whose name has no listener. It must be answered by Accept or Reject. Once
// the connection is over, the error is that of Err.
func (d *Device) Next(ctx context.Context) (*StreamRequest, error) {
	d.mu.Lock()
	d.nexted = true
	d.mu.Unlock()
	select {
	case <-d.gone: // what is still in the queue cannot be answered
		return nil, d.Err()
	default:
	}
	select {
	case r := <-d.requests:
		return r, nil
	case <-d.gone:
		return nil, d.Err()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
