package stream

import (
	"bytes"
	"fmt"
	"net"
	"testing"

	"github.com/farportio/farport/internal/wire"
)

// What has arrived is not kept back for what has not: half a header, a payload that
// was only announced, a control frame that is not whole.
func TestReadDoesNotWaitWithBytesInHand(t *testing.T) {
	e := newEndpoint(t)
	for name, tail := range map[string][]byte{
		"half a header":   {bitFinal | opBinary},
		"header alone":    {bitFinal | opBinary, bitMask | 5, 1, 2, 3, 4},
		"half a ping":     {bitFinal | opPing, bitMask | 5, 1, 2, 3, 4, 9},
		"huge announced":  {bitFinal | opBinary, bitMask | 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4},
		"half the length": {bitFinal | opBinary, bitMask | 127, 0},
	} {
		for _, together := range []bool{true, false} {
			t.Run(fmt.Sprint(name, together), func(t *testing.T) {
				hub, peer := e.raw(t)
				if together {
					peer.push(t, append(peer.data("hello"), tail...))
				} else {
					peer.push(t, peer.data("hello"), tail)
				}
				hub.deadlineForTest(t)
				buf := make([]byte, 100)
				if n, err := hub.Read(buf); string(buf[:n]) != "hello" || err != nil {
					t.Fatalf("read %q, %v", buf[:n], err)
				}
			})
		}
	}
}

// A frame may come in as many records as the peer likes, and control frames may
// stand between fragments.
func TestFramesCutAnywhere(t *testing.T) {
	hub, peer := newRaw(t)
	want := noise(3, 3000)
	var raw []byte
	raw = append(raw, peer.frame(opBinary, want[:500])...)
	raw = append(raw, peer.frame(bitFinal|opPing, []byte("p"))...)
	raw = append(raw, peer.frame(opContinuation, want[500:1700])...)
	raw = append(raw, peer.frame(bitFinal|opPong, nil)...)
	raw = append(raw, peer.frame(bitFinal|opContinuation, want[1700:])...)
	raw = append(raw, peer.close(wire.CloseNormal, "")...)
	go func() {
		for i := 0; i < len(raw); {
			n := min(1+i%7, len(raw)-i)
			if _, err := peer.Write(raw[i : i+n]); err != nil {
				t.Error(err)
			}
			i += n
		}
	}()
	got, err := readEnd(hub)
	if wantEnd(t, err, ""); !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, want %d", len(got), len(want))
	}
	if _, pong, err := peer.until(opPong); err != nil || string(pong) != "p" {
		t.Errorf("pong %q, %v", pong, err)
	}
}

func TestFramesNoPeerMaySend(t *testing.T) {
	e := newEndpoint(t)
	long := make([]byte, maxControl+1)
	for _, test := range []struct {
		name string
		raw  func(p *rawPeer) []byte
	}{
		{"unmasked", func(p *rawPeer) []byte { p.masks = false; return p.data("x") }},
		{"reserved bit", func(p *rawPeer) []byte { return p.frame(bitFinal|0x40|opBinary, []byte("x")) }},
		{"unknown data opcode", func(p *rawPeer) []byte { return p.frame(bitFinal|0x3, []byte("x")) }},
		{"unknown control opcode", func(p *rawPeer) []byte { return p.frame(bitFinal|0xb, nil) }},
		{"long ping", func(p *rawPeer) []byte { return p.frame(bitFinal|opPing, long) }},
		{"fragmented ping", func(p *rawPeer) []byte { return p.frame(opPing, nil) }},
		{"continuation of nothing", func(p *rawPeer) []byte { return p.frame(bitFinal|opContinuation, nil) }},
		{"message inside a message", func(p *rawPeer) []byte {
			return append(p.frame(opBinary, nil), p.frame(bitFinal|opText, nil)...)
		}},
		{"length below zero", func(*rawPeer) []byte {
			return []byte{bitFinal | opBinary, bitMask | 127, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
		}},
		{"close frame of one byte", func(p *rawPeer) []byte { return p.frame(bitFinal|opClose, []byte{3}) }},
		{"close text that is no text", func(p *rawPeer) []byte { return p.close(1000, "\xff") }},
		{"close code 0", func(p *rawPeer) []byte { return p.close(0, "") }},
		{"close code 999", func(p *rawPeer) []byte { return p.close(999, "") }},
		{"close code 1005 spelled out", func(p *rawPeer) []byte { return p.frame(bitFinal|opClose, []byte{0x03, 0xed}) }},
		{"close code 1006", func(p *rawPeer) []byte { return p.close(1006, "") }},
		{"close code 1015", func(p *rawPeer) []byte { return p.close(1015, "") }},
		{"close code 5000", func(p *rawPeer) []byte { return p.close(5000, "") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			hub, peer := e.raw(t)
			peer.push(t, append(peer.data("before"), test.raw(peer)...))
			got, err := readEnd(hub)
			if wantEnd(t, err, wire.EndProtocol); string(got) != "before" {
				t.Errorf("got %q before it", got)
			}
			hub.Abort(Reason(err))
			peer.wantClose(t, wire.CloseError, "protocol")
		})
	}
}

// A server's frames must not be masked.
func TestMaskedServer(t *testing.T) {
	near, far := net.Pipe()
	end := newConn(newFrameConn(near, newReader(near), true), wire.DrainSilence)
	defer end.Close()
	defer far.Close()
	peer := &rawPeer{Conn: far, masks: true}
	go func() { _, _ = far.Write(peer.data("x")) }()
	_, err := readEnd(end)
	wantEnd(t, err, wire.EndProtocol)
}
