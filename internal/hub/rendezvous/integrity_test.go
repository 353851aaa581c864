package rendezvous

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/farportio/farport/internal/stream"
	"github.com/farportio/farport/internal/wire"
)

// payload is n bytes that no other stream and side has.
func payload(id string, side wire.Side, n int) []byte {
	var seed [32]byte
	copy(seed[:], id+string(side))
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(seed).Read(b)
	return b
}

// meetings is where both kinds of leg join: over WebSockets at an endpoint, whose
// paths are /{stream}/{side}, and over TCP.
type meetings struct {
	*world
	endpoint *httptest.Server
}

func newMeetings(t testing.TB) *meetings {
	m := &meetings{world: newWorld(t, Options{MaxPerDevice: 1000})}
	m.endpoint = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(r.URL.Path, "/")
		place, err := m.claim(parts[1], wire.Side(parts[2]))
		if err != nil {
			w.WriteHeader(http.StatusGone)
			return
		}
		leg, err := stream.Accept(w, r)
		if err != nil {
			place.Abandon(err)
			return
		}
		place.Join(leg)
	}))
	m.endpoint.Listener = stream.Listener(m.endpoint.Listener)
	m.endpoint.StartTLS()
	t.Cleanup(m.endpoint.Close)
	return m
}

func (m *meetings) dial(id string, side wire.Side) (stream.Half, error) {
	return stream.Dial(m.t.Context(), "wss"+strings.TrimPrefix(m.endpoint.URL, "https")+"/"+id+"/"+string(side), "token",
		stream.DialOptions{TLS: m.endpoint.Client().Transport.(*http.Transport).TLSClientConfig})
}

func (m *meetings) dialTCP(id string, side wire.Side) (stream.Half, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	own, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, err
	}
	far, err := l.Accept()
	if err != nil {
		return nil, err
	}
	place, err := m.claim(id, side)
	if err != nil {
		return nil, err
	}
	place.Join(stream.TCP(own.(*net.TCPConn)))
	return stream.TCP(far.(*net.TCPConn)), nil
}

// exchange sends this side's payload and checks the other side's. It returns the
// leg, over which nothing more comes.
func (m *meetings) exchange(dial func(string, wire.Side) (stream.Half, error), id string, side wire.Side, size int) (stream.Half, error) {
	leg, err := dial(id, side)
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		b := binary.BigEndian.AppendUint32(nil, uint32(size))
		if _, err := leg.Write(append(b, payload(id, side, size)...)); err != nil {
			m.t.Errorf("%s %s: %v", id, side, err)
		}
	})
	defer wg.Wait()
	var head [4]byte
	if _, err := io.ReadFull(leg, head[:]); err != nil {
		return leg, err
	}
	got := make([]byte, binary.BigEndian.Uint32(head[:])&0xffffff)
	if _, err := io.ReadFull(leg, got); err != nil {
		return leg, err
	}
	if !bytes.Equal(got, payload(id, side.Other(), len(got))) {
		return leg, fmt.Errorf("%d bytes of another stream", len(got))
	}
	return leg, nil
}

// Fifty streams at a time come and go, each with bytes of its own. A buffer that is
// put back twice would give one stream another's.
func TestStreamsDoNotMix(t *testing.T) {
	m := newMeetings(t)
	var wg sync.WaitGroup
	for worker := range 50 {
		wg.Go(func() {
			for round := range 4 {
				id := fmt.Sprintf("%d-%d", worker, round)
				dial, broken := m.dial, worker%3 == 0
				if (worker+round)%2 == 0 {
					dial = m.dialTCP
				}
				m.carry(dial, id, 1000+worker*3000+round*70_000, broken)
			}
		})
	}
	wg.Wait()
}

// carry opens a stream, exchanges bytes both ways, and ends it.
func (m *meetings) carry(dial func(string, wire.Side) (stream.Half, error), id string, size int, broken bool) {
	if err := m.make(Stream{ID: id, Device: "d", Policy: "p"}); err != nil {
		m.t.Error(err)
		return
	}
	legs := make([]stream.Half, 2)
	var wg sync.WaitGroup
	for i, side := range sides {
		wg.Go(func() {
			var err error
			if legs[i], err = m.exchange(dial, id, side, size); err != nil {
				m.t.Errorf("%s %s: %v", id, side, err)
			}
		})
	}
	wg.Wait()
	if legs[0] == nil || legs[1] == nil {
		return
	}
	_, overTCP := legs[0].(*stream.Conn)
	if overTCP = !overTCP; overTCP && !broken {
		for _, leg := range legs {
			if err := leg.CloseWrite(); err != nil {
				m.t.Error(err)
			}
		}
		for _, leg := range legs {
			if _, err := leg.Read(make([]byte, 1)); err != io.EOF {
				m.t.Errorf("%s: %v after the last byte", id, err)
			}
		}
	}
	for _, leg := range legs {
		wg.Go(func() {
			if broken {
				leg.Abort(wire.EndAborted) // with frames of others' still on their way
			}
			leg.Close()
		})
	}
	wg.Wait()
	want := int64(size + 4)
	if s := m.summary(id); s.Up != want || s.Down != want || s.Reason.Clean() != (overTCP && !broken) {
		m.t.Errorf("%s ended %q with %d up, %d down, want %d each", id, s.Reason, s.Up, s.Down, want)
	}
}
