package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/rdp"
	"github.com/farportio/farport/proxy"
)

// handOverWithin is how soon a client ends that only hands over to one that runs:
// nobody signs in and off again that fast.
const handOverWithin = 3 * time.Second

// rdpSession is a forward and the client on it.
type rdpSession struct {
	a      *app
	o      rdpConnectOptions
	client rdp.Client
	view   *streamView

	mu      sync.Mutex
	failure error         // of the last stream, where it is more than the client can know
	open    int           // streams
	opened  bool          // there has been one
	changed chan struct{} // of capacity 1: has something in it when open has changed
}

// run makes the forward, and ends it with the client or with ctx.
func (s *rdpSession) run(ctx context.Context, hub *hubclient.Service) error {
	listeners, err := s.listen(hub)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	forwarding := make(chan error, 1)
	go func() {
		forwarding <- listeners.Run(ctx)
		stop() // a client without a forward is of no use
	}()
	if s.client.Stay() != rdp.Stays { // the others ask their questions on the terminal
		defer s.view.show()()
	}
	began := time.Now()
	handedOver, err := s.runClient(ctx, listeners.Addrs()[0].String())
	if handedOver {
		s.a.term.notice("%s goes on by itself; the forward stays until Ctrl-C", s.client.Name)
		return <-forwarding
	}
	if err == nil {
		s.outlast(ctx, time.Since(began) < handOverWithin)
	}
	stop()
	broken := <-forwarding
	if failure := s.failed(); err != nil && failure != nil {
		err = failure // which is why the client failed
	}
	return errors.Join(err, broken)
}

// listen binds the port that is the device's, or else a free one.
func (s *rdpSession) listen(hub *hubclient.Service) (*proxy.Listeners, error) {
	options := proxy.ServiceOptions{
		Hub: hub, DeviceID: s.o.device, Open: s.o.open(), GracePeriod: s.o.grace,
		Traffic: &s.view.traffic, Events: s.event, Logger: s.a.logger(slog.LevelWarn),
	}
	on := func(port int) (*proxy.Listeners, error) {
		return proxy.Listen(options, []proxy.Forward{{Address: rdp.Address(port), Service: s.o.service}})
	}
	if listeners, err := on(rdp.Port(s.o.device, s.o.service)); err == nil {
		return listeners, nil
	}
	return on(0)
}

// event is the callback of the forward.
func (s *rdpSession) event(e proxy.Event) {
	s.mu.Lock()
	if e.Kind == proxy.Ended {
		s.count(-1)
	}
	lost, isEnd := errors.AsType[*hubclient.EndError](e.Err)
	switch {
	case e.Kind == proxy.Opened:
		s.failure = nil
		s.count(1)
	case e.Kind == proxy.Refused && !errors.Is(e.Err, context.Canceled):
		s.failure = e.Err
	case e.Kind == proxy.Ended && isEnd && lost.Lost():
		s.failure = fmt.Errorf("stream to %s (%s): %w", named(e.Device), word(e.Service), e.Err)
	}
	s.mu.Unlock()
	s.view.event(e)
	if e.Kind != proxy.Opened {
		return
	}
	if uid, ok := localPeer(e.Peer); ok && uid != os.Geteuid() { // nothing keeps users from a port
		s.a.term.warn("stream %d was opened by another user of this machine, %s", e.Stream, namedUser(uid))
	}
}

// namedUser is a user as people know them.
func namedUser(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return quote(u.Username)
	}
	return strconv.Itoa(uid)
}

// count is called with mu locked.
func (s *rdpSession) count(more int) {
	s.open += more
	s.opened = true
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// outlast waits for the streams of a client that has ended well: most are on their way out.
// Some starter of a client leaves it in the background, though: what is still there after
// the grace period counts as in use, and is waited for until ctx ends. Such a client may
// have no stream yet if it ended soon.
func (s *rdpSession) outlast(ctx context.Context, soon bool) {
	grace, cancel := context.WithTimeout(ctx, s.o.grace)
	defer cancel()
	if s.idle(grace, soon) || ctx.Err() != nil || !s.inUse() {
		return
	}
	s.a.term.notice("%s has ended, but something still uses its forward, which stays until that ends or Ctrl-C", s.client.Name)
	s.idle(ctx, false)
}

func (s *rdpSession) inUse() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open > 0
}

// idle waits until no stream is open, and, if one must have been, until one was. It reports
// whether that came before the end of ctx.
func (s *rdpSession) idle(ctx context.Context, opened bool) bool {
	for {
		s.mu.Lock()
		is := s.open == 0 && (s.opened || !opened)
		s.mu.Unlock()
		if is {
			return true
		}
		select {
		case <-s.changed:
		case <-ctx.Done():
			return false
		}
	}
}

func (s *rdpSession) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

// runClient runs the client to its end, or until ctx has ended. It reports whether an
// app that the client handed over to goes on.
func (s *rdpSession) runClient(ctx context.Context, address string) (handedOver bool, err error) {
	to := rdp.Connection{Device: s.o.device, Address: address, User: s.o.user, Args: s.o.args}
	if s.client.NeedsFile(s.o.user) {
		dir, err := os.MkdirTemp("", "farport-rdp-")
		if err != nil {
			return false, err
		}
		defer func() { _ = os.RemoveAll(dir) }() // a temporary folder is no reason to fail
		to.File = filepath.Join(dir, "device.rdp")
		if err := os.WriteFile(to.File, rdp.File(to), 0o600); err != nil {
			return false, err
		}
	}
	words := s.client.Command(to)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.a.in, s.a.term.out, s.a.term.err
	cmd.Env = rdpEnvironment(os.Environ())
	cmd.WaitDelay = max(s.o.grace, time.Second)
	cmd.Cancel = func() error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err == nil || errors.Is(err, os.ErrProcessDone) {
			return err
		}
		return cmd.Process.Kill() // Windows has no SIGTERM
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return false, fmt.Errorf("start the RDP client: %w", err)
	}
	err = cmd.Wait() // what matters of it is in ProcessState
	switch {
	case ctx.Err() != nil:
		return false, nil // told to end
	case cmd.ProcessState == nil:
		return false, err
	case !s.client.EndedWell(cmd.ProcessState.ExitCode()):
		return false, fmt.Errorf("RDP client %s ended with %s", s.client.Name, cmd.ProcessState)
	}
	stay := s.client.Stay()
	return stay == rdp.HandsOver || stay == rdp.MayHandOver && time.Since(began) < handOverWithin, nil
}

// rdpEnvironment is what an RDP client gets of an environment: nothing that is for farport,
// above all no credentials, and no HTTP proxies, which often have a password, and which
// FreeRDP would ask for the way to 127.0.0.1.
func rdpEnvironment(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(v string) bool {
		name, _, _ := strings.Cut(strings.ToUpper(v), "=") // Windows ignores case
		return strings.HasPrefix(name, envPrefix) || strings.HasPrefix(name, quickstartPrefix) ||
			slices.Contains([]string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"}, name)
	})
}
