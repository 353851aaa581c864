package stream

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/farportio/farport/internal/wire"
)

// allReasons are the words a stream can be broken with.
var allReasons = []wire.EndReason{
	wire.EndAborted, wire.EndNetwork, wire.EndRejected, wire.EndOffline, wire.EndExpired,
	wire.EndRevoked, wire.EndStopping, wire.EndProtocol,
}

func TestCleanEnd(t *testing.T) {
	e := newEndpoint(t)
	for _, first := range []string{"hub", "end"} {
		t.Run(first+" first", func(t *testing.T) {
			hub, end := e.leg(t)
			var wg sync.WaitGroup
			if first == "hub" {
				if err := hub.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				_, err := readEnd(end)
				wantEnd(t, err, "")
				wg.Go(func() {
					if err := end.CloseWrite(); err != nil {
						t.Error(err)
					}
				})
			} else {
				if err := end.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				wg.Go(func() { _ = hub.CloseWrite() }) // long before the drain time is over
				_, err := readEnd(end)
				wantEnd(t, err, "")
			}
			_, err := readEnd(hub)
			wantEnd(t, err, "")
			wg.Wait()
			closeBoth(hub, end)
		})
	}
}

func TestAbortArrivesAsTheSameWord(t *testing.T) {
	e := newEndpoint(t)
	for _, reason := range allReasons {
		t.Run(string(reason), func(t *testing.T) {
			hub, end := e.leg(t)
			hub.Abort(reason)
			_, err := readEnd(end)
			wantEnd(t, err, reason)
			hub2, end2 := e.leg(t)
			end2.Abort(reason)
			_, err = readEnd(hub2)
			wantEnd(t, err, reason)
			closeBoth(hub, end)
			closeBoth(hub2, end2)
		})
	}
}

func TestWhatAPeersCloseMeans(t *testing.T) {
	e := newEndpoint(t)
	for _, test := range []struct {
		code int
		text string
		want wire.EndReason
	}{
		{wire.CloseNormal, "", ""},
		{wire.CloseNormal, "End of test", ""},
		{wire.CloseNoStatus, "", ""}, // the Node quickstart
		{1001, "", wire.EndNetwork},
		{wire.CloseProtocol, "", wire.EndProtocol},
		{wire.CloseTooBig, "", wire.EndProtocol},
		{wire.CloseError, "WS disconnected", wire.EndNetwork}, // the real gateway
		{wire.CloseError, "aborted", wire.EndAborted},
		{wire.CloseError, "device closed", wire.EndNetwork}, // no way to end in good order
		{wire.CloseError, "", wire.EndNetwork},
		{4999, "aborted", wire.EndNetwork},
	} {
		t.Run(fmt.Sprint(test.code, test.text), func(t *testing.T) {
			hub, peer := e.raw(t)
			peer.push(t, peer.data("tail"), peer.close(test.code, test.text))
			got, err := readEnd(hub)
			if wantEnd(t, err, test.want); string(got) != "tail" {
				t.Errorf("got %q before it", got)
			}
		})
	}
}

func TestNoCloseFrameIsNoEnd(t *testing.T) {
	e := newEndpoint(t)
	for name, vanish := range map[string]func(*rawPeer){
		"TLS in good order": func(p *rawPeer) { p.Close() },
		"TCP in good order": func(p *rawPeer) { p.Conn.(*tls.Conn).NetConn().Close() },
		"inside a header": func(p *rawPeer) {
			_, _ = p.Write([]byte{bitFinal | opBinary})
			p.Close()
		},
		"inside a message": func(p *rawPeer) {
			_, _ = p.Write(p.data("xy")[:7])
			p.Close()
		},
		"between fragments": func(p *rawPeer) {
			_, _ = p.Write(p.frame(opBinary, []byte("x")))
			p.Close()
		},
		"inside a close frame": func(p *rawPeer) {
			_, _ = p.Write(p.close(wire.CloseNormal, "bye")[:8])
			p.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			hub, peer := e.raw(t)
			vanish(peer)
			_, err := readEnd(hub)
			wantEnd(t, err, wire.EndNetwork)
		})
	}
}

// The peer has closed while this side still sends: all of it is delivered, and the
// close comes at once when this side has finished.
func TestPeerClosedWhileSending(t *testing.T) {
	hub, peer := newRaw(t)
	peer.push(t, peer.close(wire.CloseNormal, ""))
	_, err := readEnd(hub)
	wantEnd(t, err, "")
	want := noise(5, 3<<20)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := send(hub, want); err != nil {
			t.Error(err)
		}
	})
	if got := peer.wantClose(t, wire.CloseNormal, ""); !bytes.Equal(got, want) {
		t.Errorf("%d bytes arrived, want %d", len(got), len(want))
	}
	wg.Wait()
	if _, err := hub.Write([]byte("x")); Reason(err) != wire.EndAborted || err == nil {
		t.Errorf("write after the close frame: %v", err)
	}
}

// An end that closes with bytes unread must not have TCP reset the connection over
// its own close frame.
func TestCloseWithBytesUnread(t *testing.T) {
	e := newEndpoint(t)
	var wg sync.WaitGroup
	for range 10 {
		hub, end := e.leg(t)
		wg.Go(func() {
			sent := make(chan error, 1)
			go func() {
				_, err := hub.Write(noise(6, 8<<20)) // nobody reads that
				sent <- err
			}()
			buf := make([]byte, 1)
			if _, err := io.ReadFull(end, buf); err != nil {
				t.Error(err)
			}
			end.Abort(wire.EndRevoked)
			closed := make(chan error, 1)
			go func() { closed <- end.Close() }()
			_, err := readEnd(hub)
			if Reason(err) != wire.EndRevoked {
				t.Errorf("the close frame was lost: %v", err)
			}
			hub.Close()
			<-sent
			<-closed
		})
	}
	wg.Wait()
}

func TestCloseOfAnOpenStreamAborts(t *testing.T) {
	hub, end := newLeg(t)
	var wg sync.WaitGroup
	wg.Go(func() { _ = end.Close() })
	_, err := readEnd(hub)
	wantEnd(t, err, wire.EndAborted)
	hub.Close()
	wg.Wait()
}

func TestEndErrorText(t *testing.T) {
	for _, test := range []struct {
		err  *EndError
		want string
	}{
		{&EndError{Reason: wire.EndRevoked}, "stream ended: revoked"},
		{&EndError{Reason: wire.EndNetwork, Cause: io.ErrUnexpectedEOF}, "stream ended: network: unexpected EOF"},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
		if !errors.Is(test.err, test.err.Cause) && test.err.Cause != nil {
			t.Errorf("%v hides its cause", test.err)
		}
	}
}
