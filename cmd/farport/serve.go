package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/farportio/farport/internal/hub"
)

// mqttOff is the value of --mqtt-listen that leaves 8883 closed.
const mqttOff = "off"

// The values of --tls.
const (
	tlsAuto  = "auto"
	tlsFiles = "files"
)

type serveOptions struct {
	dataDir             string
	listen              string
	mqttListen          string
	hosts               []string
	tls                 string
	tlsCert, tlsKey     string
	handshakeTimeout    time.Duration
	maxStreams          int
	maxStreamsPerDevice int
	shutdownGrace       time.Duration
	resumeWindow        time.Duration
}

func (o *serveOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.dataDir, "data-dir", "", "keep devices, keys and certificates in `DIR` (default $XDG_DATA_HOME/farport, as root /var/lib/farport)")
	flags.StringVar(&o.listen, "listen", ":443", "HTTPS `ADDRESS`, all that clients need; port 0 picks one")
	flags.StringVar(&o.mqttListen, "mqtt-listen", ":8883", "`ADDRESS` for MQTT in TLS; off: none")
	flags.StringArrayVar(&o.hosts, "host", nil, "the hub's public `NAME` or NAME:PORT; repeatable (default localhost on a loopback address, else the machine's host name)")
	flags.StringVar(&o.tls, "tls", tlsAuto, "certificate: `auto|files`; auto makes one from a private CA that connection strings pin")
	flags.StringVar(&o.tlsCert, "tls-cert", "", "with --tls files: certificate chain in PEM `FILE`, read again when it changes")
	flags.StringVar(&o.tlsKey, "tls-key", "", "with --tls files: its key in PEM `FILE`")
	flags.DurationVar(&o.handshakeTimeout, "handshake-timeout", hub.DefaultHandshakeTimeout, "how long the set-up of a stream may take")
	flags.DurationVar(&o.resumeWindow, "resume-window", hub.DefaultResumeWindow, "how long a stream may be without a connection, 1h at most; 0: not at all")
	flags.IntVar(&o.maxStreams, "max-streams", 0, "most streams at once; 0 is the hub's own limit")
	flags.IntVar(&o.maxStreamsPerDevice, "max-streams-per-device", 0, "most streams to one device; 0 is the hub's own limit")
	flags.DurationVar(&o.shutdownGrace, "shutdown-grace", hub.DefaultShutdownGrace, "how long open streams may go on when the hub is told to stop")
	addConfigFlag(flags)
}

func newServe(a *app) *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the hub",
		Long: `Runs the hub: the registry of devices, their control connections, and the streaming
endpoint where both ends of a stream meet. Port 443 is all that the firewall has to
let in.

The first start on an empty data dir makes a private CA, a certificate for the
--host names, and shared access policies with fresh keys. Their connection strings
are in DIR/connection-strings, one file per policy. On the hub's own machine they
are found there by themselves: "farport device create ID" needs no flags.

When it is ready it prints one line that names its URL, and tells systemd. SIGTERM
or Ctrl-C stops it: open streams get --shutdown-grace. SIGHUP reads the certificate
files again.`,
		Example: `  farport serve --host hub.example.com
  farport serve --listen 127.0.0.1:8443 --mqtt-listen off --data-dir ./hub
  farport serve --host hub.example.com --tls files --tls-cert cert.pem --tls-key key.pem
  farport serve --config /etc/farport/hub.yaml`,
		Args:        arguments(),
		Annotations: exitStatus(exitUsage),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.configure(cmd.Flags()); err != nil {
				return err
			}
			return runServe(cmd.Context(), a, o)
		},
	}
	o.addFlags(cmd.Flags())
	return cmd
}

func runServe(ctx context.Context, a *app, o serveOptions) error {
	logger := a.logger(slog.LevelInfo)
	options, certificate, err := o.hubOptions(a, logger)
	if err != nil {
		return err
	}
	h, err := hub.Open(ctx, options)
	if ctx.Err() != nil {
		if err == nil {
			h.Close()
		}
		return nil
	}
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if certificate != nil {
		certificate.checkName(h.URL())
		hangup := make(chan os.Signal, 1)
		signal.Notify(hangup, syscall.SIGHUP)
		defer signal.Stop(hangup)
		wg.Go(func() { certificate.watch(ctx, hangup) })
	}
	defer context.AfterFunc(ctx, func() { tellSystemd(logger, daemon.SdNotifyStopping) })()
	wg.Go(func() {
		// The addresses are bound: whoever connects from now on is served.
		a.term.notice("hub ready %s", h.URL())
		tellSystemd(logger, daemon.SdNotifyReady)
	})
	return h.Run(ctx)
}

// tellSystemd does nothing where systemd is not waiting.
func tellSystemd(logger *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		logger.Warn("notify systemd", "err", err)
	}
}

// hubOptions checks the flags. The certificate is nil unless it comes from files.
func (o *serveOptions) hubOptions(a *app, logger *slog.Logger) (hub.Options, *fileCertificate, error) {
	options := hub.Options{
		DataDir:             o.dataDir,
		Listen:              o.listen,
		MQTTListen:          o.mqttListen,
		Hosts:               o.hosts,
		HandshakeTimeout:    o.handshakeTimeout,
		MaxStreams:          o.maxStreams,
		MaxStreamsPerDevice: o.maxStreamsPerDevice,
		ShutdownGrace:       cmp.Or(o.shutdownGrace, -1), // there, zero is the default
		ResumeWindow:        cmp.Or(o.resumeWindow, -1),  // as above
		Logger:              logger,
	}
	if err := o.check(); err != nil {
		return options, nil, err
	}
	if o.mqttListen == mqttOff {
		options.MQTTListen = ""
	}
	if options.DataDir == "" {
		var err error
		if options.DataDir, err = a.dataDir(); err != nil {
			return options, nil, usage("%w", err)
		}
	}
	dir, err := filepath.Abs(options.DataDir) // so that messages say where it is
	if err != nil {
		return options, nil, err
	}
	options.DataDir = dir
	if o.tls != tlsFiles {
		return options, nil, nil
	}
	certificate, err := newFileCertificate(a, o.tlsCert, o.tlsKey, logger)
	if err != nil {
		return options, nil, err
	}
	options.Certificate = certificate.get
	return options, certificate, nil
}

func (o *serveOptions) check() error {
	if err := checkAddress("listen", o.listen); err != nil {
		return err
	}
	if o.mqttListen != mqttOff {
		if err := checkAddress("mqtt-listen", o.mqttListen); err != nil {
			return err
		}
	}
	if err := oneOf("tls", o.tls, tlsAuto, tlsFiles); err != nil {
		return err
	}
	files := o.tlsCert != "" || o.tlsKey != ""
	switch {
	case o.tls == tlsFiles && (o.tlsCert == "" || o.tlsKey == ""):
		return usage("--tls files needs --tls-cert and --tls-key")
	case o.tls != tlsFiles && files:
		return usage("--tls-cert and --tls-key need --tls files")
	case o.handshakeTimeout <= 0:
		return usage("--handshake-timeout must be more than 0")
	case o.shutdownGrace < 0:
		return usage("--shutdown-grace must not be negative")
	case o.resumeWindow < 0 || o.resumeWindow > hub.MaxResumeWindow:
		return usage("--resume-window must be from 0 to 1h")
	case o.resumeWindow%time.Second != 0:
		return usage("--resume-window must be whole seconds")
	case o.maxStreams < 0 || o.maxStreamsPerDevice < 0:
		return usage("--max-streams and --max-streams-per-device must not be negative")
	}
	return nil
}

// checkAddress checks a flag that is [HOST]:PORT.
func checkAddress(flag, address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil && port != "" {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil || port == "" {
		return usage("--%s %s: must be ADDRESS:PORT or :PORT", flag, quote(address))
	}
	return nil
}

// checkTarget checks what a stream may be forwarded to, HOST:PORT.
func checkTarget(source, target string) error {
	host, port, err := net.SplitHostPort(target)
	if err == nil {
		var n uint64
		if n, err = strconv.ParseUint(port, 10, 16); n == 0 {
			err = fmt.Errorf("port %s", port)
		}
	}
	if err != nil || host == "" {
		return usage("%s %s: must be HOST:PORT", source, quote(target))
	}
	return nil
}
