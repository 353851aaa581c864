// Package hub is the server: the identity registry over HTTPS, the devices'
// control connections, and the streaming endpoint where the two legs of a stream
// meet. `farport serve` runs it; docs/architecture.md follows one stream through
// its files.
//
//	http.go      routes: what is asked, and the right it needs
//	auth.go, deviceauth.go   who asks: SAS tokens and certificates
//	identities.go, bulk.go, queries.go, twins.go   the registry, over HTTPS
//	initiate.go, endpoint.go, extended.go, methods.go, devices.go   services reach devices
//	authorities.go   CAs that vouch for devices
//	bus.go       from the node that is asked to the node that holds the device
//	streams.go   what is logged of a stream      token.go   stream tokens
//	datadir.go, ca.go   what is on disk, and the private CA
//
// Its sub-packages keep one state each and do not know each other: registry on
// top of store, broker, rendezvous.
package hub

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub/broker"
	"github.com/farportio/farport/internal/hub/registry"
	"github.com/farportio/farport/internal/hub/rendezvous"
	"github.com/farportio/farport/internal/hub/store"
	"github.com/farportio/farport/internal/stream"
)

const (
	// flushInterval is how often the devices' last activity is written down.
	flushInterval = 30 * time.Second
	// sweepInterval is how often ended streams are removed from disk.
	sweepInterval = 10 * time.Minute
	// lastAnswers bounds the wait for HTTPS requests under way when the hub stops.
	lastAnswers = time.Second
)

// ErrInUse is Open's error for a data dir that another process has open.
var ErrInUse = store.ErrInUse

// Hub is one hub node. It is made by Open and runs once.
type Hub struct {
	o          Options
	names      names
	data       *dataDir
	registry   *registry.Registry
	token      tokenKey
	broker     *broker.Broker
	rendezvous *rendezvous.Rendezvous
	bus        Bus
	log        *slog.Logger
	pinned     string // the private CA's fingerprint; "" when the world trusts the certificate

	https, mqtt net.Listener // TLS; mqtt is nil when there is none
	server      *http.Server
	conns       sync.WaitGroup // MQTT in TLS, a goroutine each

	calls chan struct{} // a place for each direct method under way
	proof proofKey      // makes verification codes for CAs

	mu       sync.Mutex
	holds    map[string]func()          // releases the bus's hold on a device
	sessions map[string]*broker.Session // the control connections, by identity
}

// Open binds the hub's addresses and opens its data dir, making what a first start
// needs. Nothing is served before Run. A Hub that is not run must be closed.
// Errors are one line for the operator; ErrInUse is another hub's data dir.
func Open(ctx context.Context, o Options) (_ *Hub, err error) {
	if err := o.setDefaults(os.Hostname); err != nil {
		return nil, err
	}
	h := &Hub{o: o, log: o.Logger, holds: make(map[string]func()), sessions: make(map[string]*broker.Session), calls: make(chan struct{}, maxCalls)}
	defer func() {
		if err != nil {
			h.closeAll()
		}
	}()
	// Addresses come first: when one is taken, nothing has been made on disk.
	if h.https, err = listen(o.Listen); err != nil {
		return nil, err
	}
	if o.MQTTListen != "" {
		if h.mqtt, err = listen(o.MQTTListen); err != nil {
			return nil, err
		}
	}
	if h.names, err = newNames(o.Hosts, h.https.Addr().(*net.TCPAddr).Port); err != nil {
		return nil, err
	}
	if h.data, err = openDataDir(ctx, o.DataDir); err != nil {
		return nil, err
	}
	if err = h.openParts(ctx); err != nil {
		return nil, err
	}
	return h, h.data.writeConnectionStrings(ctx, h.names.hostName(), h.pinned)
}

// listen binds a TCP address; TLS is put around it later, once the certificate
// has been made.
func listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}

func (h *Hub) openParts(ctx context.Context) (err error) {
	h.registry = h.data.registry
	if h.token, err = h.registry.Secret(ctx, tokenSecret, tokenKeySize); err != nil {
		return fmt.Errorf("stream token key: %w", err)
	}
	if err := h.registry.SweepStreams(ctx, time.Now()); err != nil {
		return fmt.Errorf("ended streams: %w", err)
	}
	if h.proof, err = h.registry.Secret(ctx, proofSecret, proofKeySize); err != nil {
		return fmt.Errorf("CA verification key: %w", err)
	}
	certificate := h.o.Certificate
	if certificate == nil {
		own, err := h.data.serverCertificate(h.names.order, h.log)
		if err != nil {
			return err
		}
		certificate, h.pinned = own.get, h.data.ca.fingerprint()
	}
	config := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: certificate,
		NextProtos:     []string{"http/1.1"}, // WebSockets need it
		// Who sends a certificate has shown to hold its key, no more; deviceauth.go
		// verifies it, as it depends on whose it is (security.md T26).
		ClientAuth:            tls.RequestClientCert,
		VerifyPeerCertificate: boundChain,
		// Small records at the start are for web pages; legs carry bulk.
		DynamicRecordSizingDisabled: true,
	}
	h.https = tls.NewListener(stream.Listener(h.https), config)
	if h.mqtt != nil {
		mqttConfig := config.Clone()
		mqttConfig.NextProtos = nil
		h.mqtt = tls.NewListener(h.mqtt, mqttConfig)
	}
	h.bus = newLocalBus(h.identityChanged)
	h.rendezvous = rendezvous.New(rendezvous.Options{
		HandshakeTimeout: h.o.HandshakeTimeout,
		MaxStreams:       h.o.MaxStreams,
		MaxPerDevice:     h.o.MaxStreamsPerDevice,
		Opened:           h.streamOpened,
		Ended:            h.streamEnded,
		Instance:         h.instance,
		Persist:          h.persistEnd,
		Recall:           h.recallEnd,
		Logger:           h.log,
	})
	h.broker, err = broker.New(broker.Options{
		Authenticate: h.authenticateDevice,
		Connected:    h.deviceConnected,
		Ready:        h.deviceReady,
		Disconnected: h.deviceDisconnected,
		Twin:         h.deviceTwin,
		Logger:       h.log,
	})
	h.server = h.newServer()
	return err
}

// URL is the hub's HTTPS address under its first name.
func (h *Hub) URL() string { return "https://" + h.names.address(h.names.first) }

// Address is what the HTTPS listener is bound to.
func (h *Hub) Address() net.Addr { return h.https.Addr() }

// MQTTAddress is what the listener for MQTT in TLS is bound to; nil without one.
func (h *Hub) MQTTAddress() net.Addr {
	if h.mqtt == nil {
		return nil
	}
	return h.mqtt.Addr()
}

// ConnectionString is a built-in policy's, under the hub's first name.
func (h *Hub) ConnectionString(ctx context.Context, policy string) (credential.Secret, error) {
	p, err := h.registry.Policy(ctx, policy)
	if err != nil {
		return "", fmt.Errorf("policy %q: %w", policy, err)
	}
	return connectionString(p, h.names.hostName(), h.pinned)
}

// Run serves until ctx ends or a listener fails. Then no new stream is let in,
// open plain ones get ShutdownGrace, and everything is closed; extended ones can be
// resumed at the next run. It returns nil when ctx ended.
func (h *Hub) Run(ctx context.Context) error {
	defer h.closeAll()
	serving, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var wg sync.WaitGroup
	wg.Go(func() { fail(h.server.Serve(h.https)) })
	if h.mqtt != nil {
		wg.Go(func() { fail(h.serveMQTT()) })
	}
	wg.Go(func() { h.keepRecords(serving) })
	<-serving.Done()
	err := context.Cause(serving)

	h.drain()
	h.closeListeners()
	wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("hub stopped: %w", err)
}

// drain gives open streams their grace. The listeners stay open meanwhile: a leg
// may still be on its way, and who asks for a new stream is told why not.
func (h *Hub) drain() {
	empty := h.rendezvous.Stop()
	select {
	case <-empty:
		return
	default:
	}
	grace := time.NewTimer(max(h.o.ShutdownGrace, 0))
	defer grace.Stop()
	select {
	case <-empty:
	case <-grace.C:
	}
}

func (h *Hub) closeListeners() {
	for _, l := range []net.Listener{h.https, h.mqtt} {
		if l != nil {
			_ = l.Close() // only ever says that it is closed
		}
	}
}

// closeAll ends what there is, in the order in which it depends on each other.
func (h *Hub) closeAll() {
	h.closeListeners()
	if h.rendezvous != nil {
		h.rendezvous.Close() // also tells who waits for a device's answer
	}
	if h.server != nil {
		h.closeServer()
	}
	if h.broker != nil {
		if err := h.broker.Close(); err != nil {
			h.log.Warn("close control connections", "err", err)
		}
	}
	h.conns.Wait()
	if h.data == nil {
		return
	}
	h.flushActivity(context.Background())
	if err := h.data.store.Close(); err != nil {
		h.log.Error("close registry", "err", err)
	}
}

// closeServer lets answers that are being written get through, for a moment.
func (h *Hub) closeServer() {
	ctx, cancel := context.WithTimeout(context.Background(), lastAnswers)
	defer cancel()
	if h.server.Shutdown(ctx) != nil {
		_ = h.server.Close() // only ever says that the listener is closed
	}
}

// Close frees a hub that was opened but not run.
func (h *Hub) Close() { h.closeAll() }

// serveMQTT accepts MQTT in TLS until the listener is closed. Running out of
// descriptors is waited out (security.md T34).
func (h *Hub) serveMQTT() error {
	const least, most = 10 * time.Millisecond, time.Second
	pause := least
	for {
		conn, err := h.mqtt.Accept()
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			h.log.Warn("accept MQTT connection", "err", err)
			time.Sleep(pause)
			pause = min(2*pause, most)
			continue
		}
		pause = least
		h.conns.Go(func() { h.broker.ServeConn(conn) })
	}
}

// keepRecords writes down the devices' last activity now and then, and removes what is
// known of streams for no end's sake any more.
func (h *Hub) keepRecords(ctx context.Context) {
	flush, sweep := time.NewTicker(flushInterval), time.NewTicker(sweepInterval)
	defer flush.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-flush.C:
			h.flushActivity(ctx)
		case <-sweep.C:
			if err := h.registry.SweepStreams(ctx, time.Now()); err != nil && ctx.Err() == nil {
				h.log.Warn("remove old ended streams", "err", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (h *Hub) flushActivity(ctx context.Context) {
	if err := h.registry.FlushActivity(ctx); err != nil && ctx.Err() == nil {
		h.log.Warn("write the devices' last activity", "err", err)
	}
}
