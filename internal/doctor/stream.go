package doctor

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/wire"
)

const (
	// greetingWait is how long a target may take to speak first, as an SSH server does.
	// Others wait for the client.
	greetingWait = 500 * time.Millisecond
	// farewellWait is how long a target may take to close after we have.
	farewellWait = 5 * time.Second
	// maxFarewell bounds what a target may send before it closes, in bytes.
	maxFarewell = 1 << 20

	// endWait bounds the wait for the other end to know that a stream is over.
	endWait = 2 * time.Second

	// rateTime and rateBytes bound how long and how much Rate sends, rateWait the wait for
	// the last of it.
	rateTime  = 2 * time.Second
	rateBytes = 64 << 20
	rateWait  = 20 * time.Second
)

// Open opens a stream to the target that is looked at. The caller closes it.
type Open func(ctx context.Context) (hubclient.Stream, error)

// Trip is what one stream told.
type Trip struct {
	// Setup is the time from asking the hub until the stream was open: the device has
	// connected to its target by then.
	Setup time.Duration
	// Greeting is the first line that the target sent by itself; "" when it waited for us.
	Greeting string
	// RoundTrip is the time from our end of the stream, which carries no data, until the
	// target's: to the hub, the device and the target, and all the way back. Zero when the
	// target did not close in time, or the stream has no half-close, as with Azure's hub.
	RoundTrip time.Duration
}

// Measure opens a stream and sends nothing through it but its end, which no target minds.
// It takes at most 5.5 s after the stream is open; ctx ends it sooner.
func Measure(ctx context.Context, open Open) (Trip, error) {
	var t Trip
	began := time.Now()
	s, err := open(ctx)
	if err != nil {
		return t, err
	}
	t.Setup = time.Since(began)
	defer end(s)
	defer context.AfterFunc(ctx, func() { s.Abort(wire.EndAborted) })()
	greeting := make([]byte, 256)
	_ = s.SetReadDeadline(time.Now().Add(greetingWait)) // shows in the read
	n, err := s.Read(greeting)
	t.Greeting, _, _ = strings.Cut(strings.TrimRight(string(greeting[:n]), "\r\n"), "\r\n")
	switch {
	case ctx.Err() != nil:
		return t, context.Cause(ctx)
	case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
		return t, lost(err) // the target has hung up: nothing to measure any more
	case !halfCloses(s):
		return t, nil
	}
	closed := time.Now()
	if err := s.CloseWrite(); err != nil {
		return t, lost(err)
	}
	_ = s.SetReadDeadline(closed.Add(farewellWait)) // shows in the read
	n64, err := io.Copy(io.Discard, io.LimitReader(s, maxFarewell))
	took := time.Since(closed)
	switch {
	case ctx.Err() != nil:
		return t, context.Cause(ctx)
	case errors.Is(err, os.ErrDeadlineExceeded) || n64 == maxFarewell:
		s.Abort(wire.EndAborted)
		return t, nil
	}
	if err := lost(err); err != nil {
		return t, err
	}
	t.RoundTrip = took
	return t, nil
}

// end closes s and waits until the other end knows, or else it sees a stream that was lost
// when the process ends.
func end(s hubclient.Stream) {
	s.Close()
	if e, ok := s.(interface{ Ended() <-chan struct{} }); ok {
		select {
		case <-e.Ended():
		case <-time.After(endWait):
		}
	}
}

// lost is err if the stream was lost, nil if the target has only closed or reset it.
func lost(err error) error {
	if e, ok := errors.AsType[*hubclient.EndError](err); ok && e.Lost() {
		return err
	}
	return nil
}

// halfCloses reports whether each direction of s ends by itself.
func halfCloses(s hubclient.Stream) bool {
	_, extended := s.(interface{ NetworkChanged() })
	return extended
}

// errNoEcho says that what came back was not what was sent.
var errNoEcho = errors.New("the service does not echo: not all that was sent came back")

// Rate sends through a stream to a service that echoes for 2 s, 64 MB at most, and
// returns how many bytes per second came back.
func Rate(ctx context.Context, open Open) (perSecond float64, err error) {
	s, err := open(ctx)
	if err != nil {
		return 0, err
	}
	defer end(s)
	defer context.AfterFunc(ctx, func() { s.Abort(wire.EndAborted) })()
	began := time.Now()
	_ = s.SetDeadline(began.Add(rateWait)) // shows in reads and writes
	sent := make(chan int64, 1)
	go func() { sent <- send(s, began.Add(rateTime)) }()
	got, err := io.Copy(io.Discard, s)
	took := time.Since(began)
	if err != nil {
		s.Abort(wire.EndAborted) // the sender ends
	}
	all := <-sent
	switch {
	case ctx.Err() != nil:
		return 0, context.Cause(ctx)
	case lost(err) != nil:
		return 0, err
	case err != nil || got != all || got == 0:
		return 0, errNoEcho
	}
	return float64(got) / took.Seconds(), nil
}

// send writes until then and returns how much; what goes wrong shows in the reader.
func send(s net.Conn, then time.Time) (n int64) {
	block := make([]byte, 64<<10)
	for n < rateBytes && time.Now().Before(then) {
		written, err := s.Write(block)
		n += int64(written)
		if err != nil {
			return n
		}
	}
	_ = s.(interface{ CloseWrite() error }).CloseWrite() // shows in the reader
	return n
}
