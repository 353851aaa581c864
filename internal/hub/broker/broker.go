// Package broker holds the hub's control connections: one MQTT 3.1.1 session
// per device or module, over TLS or over a WebSocket, through which the hub asks it
// for streams, calls its methods and answers for its twin.
//
//	8883 ──▶ ServeConn ─┐                          ┌─▶ Initiate, Invoke, Notify ──▶ device
//	                    ├─▶ conn ─▶ mochi ─▶ hook ─┤
//	443 ──▶ ServeHTTP ──┘   limits   MQTT   policy └─◀ answers, twin requests, events ◀── device
//
// It never listens by itself and never routes what a device publishes. Who may
// log in, what to do when a device comes and goes, and what its twin is, is left to the
// callbacks in Options. Wherever only devices are spoken of, modules are meant as well.
package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	mqtt "github.com/mochi-mqtt/server/v2"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/wire"
)

const (
	// defaultMaxPending is T31's bound for one device; 32 sessions at once are
	// ordinary.
	defaultMaxPending = 64
	// strangerTimeout bounds each step before a device is logged in: the TLS
	// handshake, the wait for CONNECT, and Authenticate (T28).
	strangerTimeout = 10 * time.Second
	// evictionRest is how long a device's session is safe from a newer one once
	// it has itself pushed an older one out, so that two programs with one
	// identity cannot keep the hub busy (T36).
	evictionRest = time.Second
	// loginTries is how often a login is judged anew when rights changed or
	// another session of the device appeared while it was in progress.
	loginTries = 3
)

// ErrRefused is what Options.Authenticate returns, or wraps, for credentials
// that are wrong for good: the device reads CONNACK 5.
var ErrRefused = errors.New("login refused")

// Options configures a Broker. Authenticate is required. The callbacks run on
// the goroutine of the connection they concern, with no lock of the broker held
// and in the order Connected, Ready, Disconnected; no callback of a newer
// session of the device starts before those of the older one have returned, so
// they must not wait for such a session. A panic in one ends its connection only.
type Options struct {
	// Authenticate judges a login. ErrRefused becomes CONNACK 5, any other error
	// CONNACK 3 (try later). ctx ends after 10 s or with Close. It may be called
	// again for the same login when EndWhere ran meanwhile.
	Authenticate func(ctx context.Context, l Login) (Identity, error)
	// Connected tells that s is now the device's one session; the device reads
	// its CONNACK after it returned. nil ignores.
	Connected func(s *Session)
	// Ready tells that the device has begun to listen to stream requests, methods or
	// desired properties: once for a SUBSCRIBE that adds any of the three, and the
	// device reads its SUBACK after Ready returned; and right after its CONNACK when it
	// was subscribed from before. A SUBSCRIBE that is repeated does not count, one
	// after an UNSUBSCRIBE does. What was not subscribed yet is ErrNotReady. nil ignores.
	Ready func(s *Session)
	// Disconnected tells that s is gone and no newer session took its place. nil
	// ignores.
	Disconnected func(s *Session)
	// Twin answers a device that wants its twin or reports properties; payload is its
	// own. The device is not read from until the answer is written, which is dropped if
	// it does not listen to any. nil leaves such requests without an answer.
	Twin func(s *Session, r wire.TwinRequest, payload []byte) TwinAnswer
	// MaxPending bounds the requests one device may leave unanswered, stream requests
	// and methods each. Zero means 64.
	MaxPending int
	// Logger gets protocol steps at Debug and panics at Error. nil discards.
	Logger *slog.Logger
}

// Login is what a device says in its CONNECT packet. Client ID and user name
// have been found to name the same device and module.
type Login struct {
	ClientID string
	User     wire.UserName
	Password credential.Secret    // a SAS token; "" with a client certificate
	TLS      *tls.ConnectionState // nil without TLS; nothing in it has been verified
	Remote   net.Addr
}

// Identity is what a login proved to be.
type Identity struct {
	Name         string // must be Login.ClientID: DEVICE, or DEVICE/MODULE
	GenerationID string // which life of that ID
	CredentialID string // which credential let it in
	Host         string // name of the hub the device used
	// Offer is what this connection said that the device is ready for; the broker
	// fills it in.
	Offer wire.Offer
	// Expires is when the session is ended, any grace included. Zero: never.
	Expires time.Time
}

// TwinAnswer is the answer to a wire.TwinRequest, as wire.TwinAnswerTopic has it.
type TwinAnswer struct {
	Status  int
	Version int    // of the reported properties after a report, else 0
	Body    []byte // may be nil; must not change any more
}

// Broker holds the control connections. It is safe for concurrent use.
type Broker struct {
	options      Options
	server       *mqtt.Server
	upgrader     websocket.Upgrader
	authenticate func(Login) (Identity, error)
	stop         context.CancelFunc
	stopping     <-chan struct{} // closed by stop
	serving      sync.WaitGroup  // one for each connection

	mu       sync.Mutex
	closed   bool
	epoch    uint64 // counts calls of EndWhere
	serial   uint64 // counts connections
	conns    map[*conn]struct{}
	sessions map[string]*Session  // by client ID
	retained map[string]*retained // by client ID, of those that have no session
}

// New makes a broker that has no connections yet. It does no I/O and starts no
// goroutine. The error says which option is unusable.
func New(o Options) (*Broker, error) {
	if o.Authenticate == nil {
		return nil, errors.New("new broker: Options.Authenticate is nil")
	}
	if o.MaxPending < 0 {
		return nil, fmt.Errorf("new broker: Options.MaxPending is %d", o.MaxPending)
	}
	if o.MaxPending == 0 {
		o.MaxPending = defaultMaxPending
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	ignore := func(*Session) {}
	for _, callback := range []*func(*Session){&o.Connected, &o.Ready, &o.Disconnected} {
		if *callback == nil {
			*callback = ignore
		}
	}
	base, stop := context.WithCancel(context.Background())
	b := &Broker{
		options:  o,
		upgrader: newUpgrader(),
		stop:     stop,
		stopping: base.Done(),
		conns:    make(map[*conn]struct{}),
		sessions: make(map[string]*Session),
		retained: make(map[string]*retained),
	}
	b.authenticate = func(l Login) (Identity, error) {
		ctx, cancel := context.WithTimeout(base, strangerTimeout)
		defer cancel()
		return o.Authenticate(ctx, l)
	}
	var err error
	if b.server, err = newServer(b); err != nil {
		stop()
		return nil, fmt.Errorf("new broker: %w", err)
	}
	return b, nil
}

// ServeConn serves one device on a TLS connection, handshake included if it has
// not been made yet. It blocks until the connection has ended, and closes it.
func (b *Broker) ServeConn(nc net.Conn) {
	if b.enter() {
		b.serve(nc)
		return
	}
	_ = nc.Close()
}

// enter announces a connection, which serve then takes over. False means the
// broker is closed.
func (b *Broker) enter() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.serving.Add(1)
	return true
}

// serve runs a connection that enter announced, to its end.
func (b *Broker) serve(nc net.Conn) {
	defer b.serving.Done()
	c := newConn(nc, b.options.Logger)
	defer c.close()
	if !b.add(c) {
		return
	}
	defer b.remove(c)
	err := b.run(c)
	b.options.Logger.Debug("device connection ended", "client", c.name(), "remote", nc.RemoteAddr(), "err", err)
}

// run feeds the connection to the MQTT server until it ends.
func (b *Broker) run(c *conn) error {
	defer c.recovered()
	_ = c.Conn.SetDeadline(time.Now().Add(strangerTimeout))
	if h, ok := c.Conn.(interface{ Handshake() error }); ok {
		if err := h.Handshake(); err != nil {
			return fmt.Errorf("TLS handshake: %w", err)
		}
		_ = c.Conn.SetDeadline(time.Now().Add(strangerTimeout))
	}
	return b.server.EstablishConnection("", c)
}

// add makes the connection one that Close ends.
func (b *Broker) add(c *conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.serial++
	c.serial = b.serial
	b.conns[c] = struct{}{}
	return true
}

// remove lets go of an ended connection and of the session it carried.
func (b *Broker) remove(c *conn) {
	if c.session != nil {
		b.leave(c.session)
	}
	if c.client != nil {
		// Mochi forgets a client by itself only on its ordinary way out.
		b.server.UnsubscribeClient(c.client)
		b.server.Clients.Delete(c.client.ID)
	}
	b.mu.Lock()
	delete(b.conns, c)
	b.mu.Unlock()
}

// Session returns the session of the device or module of that wire.TargetName, or nil
// if it has none here.
func (b *Broker) Session(name string) *Session {
	b.mu.Lock()
	s := b.sessions[name]
	b.mu.Unlock()
	if s == nil || s.over() {
		return nil
	}
	return s
}

// Close ends all connections and waits until the last callback has returned. It
// may be called twice. It must not be called from a callback.
func (b *Broker) Close() error {
	b.mu.Lock()
	b.closed = true
	conns := make([]*conn, 0, len(b.conns))
	for c := range b.conns {
		conns = append(conns, c)
	}
	sessions := make([]*Session, 0, len(b.sessions))
	for _, s := range b.sessions {
		sessions = append(sessions, s)
	}
	b.mu.Unlock()
	b.stop()
	for _, s := range sessions {
		s.end(string(wire.EndStopping))
	}
	for _, c := range conns {
		c.abort()
	}
	b.serving.Wait()
	return nil
}
