package hub_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/gorilla/websocket"

	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/wire"
)

// What the preview's SDKs do that nobody would expect, each imitated on the wire. Where
// one has its test elsewhere: the order of accept and leg is TestLegOrders; subprotocols
// in capitals and permessage-deflate are TestLegHandshake; raw and escaped sr are
// TestSignInSpellings.

// opened asks a device for a stream and accepts it.
func (w *world) opened(d *device) (r wire.StreamRequest, url, token string) {
	w.t.Helper()
	asked := w.open(d.id, "TestStream", "", "")
	r = d.next()
	d.answer(r, 200)
	url, token = asked.accepted()
	return r, url, token
}

// The C proxy sends 64 bytes at a time, and drops nothing. What has gathered in the hub
// goes on in messages as large as they may be.
func TestSmallMessagesAreGathered(t *testing.T) {
	w := newWorld(t, hub.Options{})
	r, serviceURL, token := w.opened(w.device(w.AddDevice("pi-1")))
	device := w.leg(r.URL, r.Token)
	want := make([]byte, 300_000)
	for i := range want {
		want[i] = byte(i * i >> 3)
	}
	sent := make(chan error, 1)
	go func() {
		var err error
		for rest := want; len(rest) > 0 && err == nil; {
			n := min(64, len(rest))
			err = device.WriteMessage(websocket.BinaryMessage, rest[:n])
			rest = rest[n:]
		}
		sent <- err
	}()
	if err := <-sent; err != nil { // nobody reads it yet, which the sockets' buffers bear
		t.Fatal(err)
	}
	service := w.leg(serviceURL, token)
	_ = service.SetReadDeadline(time.Now().Add(patience))
	var got []byte
	messages := 0
	for len(got) < len(want) {
		_, b, err := service.ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > wire.Chunk {
			t.Errorf("a message of %d bytes", len(b))
		}
		got = append(got, b...)
		messages++
	}
	if !bytes.Equal(got, want) {
		t.Error("the bytes that came are not those that were sent")
	}
	if messages > 300 {
		t.Errorf("4,689 messages went on as %d", messages)
	}
}

// The C client stalls on a control frame that shares a TLS record with another frame.
func TestControlFramesHaveTheirOwnRecords(t *testing.T) {
	w := newWorld(t, hub.Options{})
	r, serviceURL, token := w.opened(w.device(w.AddDevice("pi-1")))
	device, service := w.leg(r.URL, r.Token), w.leg(serviceURL, token)
	const pings = 50
	go func() {
		for range 2000 {
			if service.WriteMessage(websocket.BinaryMessage, make([]byte, 1000)) != nil {
				return
			}
		}
		_ = service.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(patience))
	}()
	// The library has read nothing ahead: the hub speaks first only after this.
	conn := device.NetConn()
	go func() {
		for range pings {
			_ = device.WriteControl(websocket.PingMessage, []byte("?"), time.Now().Add(patience))
			time.Sleep(time.Millisecond)
		}
	}()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	controls, left := 0, 0        // left: payload of a data frame that goes on in the next record
	record := make([]byte, 1<<17) // a Read of crypto/tls returns no more than one record
	for {
		n, err := conn.Read(record)
		if err != nil {
			t.Fatalf("after %d control frames: %v", controls, err)
		}
		frames, closing := 0, false
		for rest := record[:n]; len(rest) > 0; frames++ {
			if left > 0 {
				skip := min(left, len(rest))
				left, rest = left-skip, rest[skip:]
				continue
			}
			op, head, length := frameHead(t, rest)
			if op >= 8 {
				controls++
				closing = closing || op == 8
				if frames > 0 || head+length != n {
					t.Fatalf("a control frame of %d bytes in a record of %d", head+length, n)
				}
			}
			skip := min(length, len(rest)-head)
			left, rest = length-skip, rest[head+skip:]
		}
		if closing {
			break
		}
	}
	if controls < 2 {
		t.Errorf("%d control frames came; the test saw nothing", controls)
	}
}

// frameHead reads the head of an unmasked frame that is there as a whole.
func frameHead(t *testing.T, p []byte) (op byte, head, length int) {
	t.Helper()
	head, length = 2, int(p[1])
	switch {
	case p[1]&0x80 != 0:
		t.Fatal("the hub masks")
	case length == 126:
		head, length = 4, int(binary.BigEndian.Uint16(p[2:]))
	case length == 127:
		head, length = 10, int(binary.BigEndian.Uint64(p[2:]))
	}
	return p[0] & 0xf, head, length
}

// A C# proxy whose local connection has ended sends empty messages in a tight loop: the
// other end learns that it has ended in good order, after all that it had sent.
func TestFloodOfEmptyMessages(t *testing.T) {
	w := newWorld(t, hub.Options{})
	p := w.stream(w.device(w.AddDevice("pi-1")))
	send(t, p.service, "the last word")
	flooding := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			err = p.service.WriteMessage(websocket.BinaryMessage, nil)
		}
		flooding <- err
	}()
	receive(t, p.device, "the last word")
	_, _, err := p.device.ReadMessage()
	if !websocket.IsCloseError(err, websocket.CloseNormalClosure) { // the library has answered it
		t.Errorf("the device's leg ended with %v, want 1000", err)
	}
	_ = p.service.SetReadDeadline(time.Now().Add(patience))
	if _, _, err := p.service.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Errorf("the service's leg ended with %v, want 1000", err)
	}
	if err := <-flooding; err == nil {
		t.Error("the loop found no end")
	}
	w.Log.WaitFor(t, "stream ended", `reason="service closed"`, "joined=true")
}

// Programs that end without a close frame, as the C samples do, have broken off.
func TestUncleanEnds(t *testing.T) {
	w := newWorld(t, hub.Options{})
	d := w.device(w.AddDevice("pi-1"))
	for _, side := range []wire.Side{wire.SideDevice, wire.SideService} {
		p := w.stream(d)
		gone, left := p.device, p.service
		if side == wire.SideService {
			gone, left = p.service, p.device
		}
		_ = gone.NetConn().Close()
		_ = left.SetReadDeadline(time.Now().Add(patience))
		_, _, err := left.ReadMessage()
		closed, ok := errors.AsType[*websocket.CloseError](err)
		if !ok || closed.Code != 1011 || closed.Text != "WS disconnected" {
			t.Errorf("the %s vanished: the other leg ended with %v, want 1011 WS disconnected", side, err)
		}
	}
	// The Node proxy closes without a code, which is a clean end.
	p := w.stream(d)
	_ = p.service.WriteControl(websocket.CloseMessage, nil, time.Now().Add(patience))
	_ = p.device.SetReadDeadline(time.Now().Add(patience))
	if _, _, err := p.device.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Errorf("the device's leg ended with %v, want 1000", err)
	}
}

// The C client wants the port written out, drops the query, and has 1024 bytes for
// path, host and token each; $auth is not decoded by anybody. Also with the longest
// names there are.
func TestWhatTheCClientCanRead(t *testing.T) {
	w := newWorld(t, hub.Options{})
	longest := strings.Repeat("#%'$", 32)
	w.AddDevice(longest)
	for _, d := range []*device{w.device(w.AddDevice("pi-1")), w.device(w.AddDevice(longest + "/" + longest))} {
		asked := w.open(d.id, strings.Repeat("~", 128), "", "")
		r := d.next()
		d.answer(r, 200)
		serviceURL, serviceToken := asked.accepted()
		for _, leg := range []struct{ url, token string }{{r.URL, r.Token}, {serviceURL, serviceToken}} {
			u, err := url.Parse(leg.url)
			if err != nil || u.Scheme != "wss" || u.Port() == "" || u.RawQuery != "" || strings.Contains(leg.url, "?") || len(u.Path) >= 1000 || len(u.Host) >= 1000 {
				t.Errorf("%.40s: URL %s, %v", d.id, leg.url, err)
			}
			if !regexp.MustCompile(`^[A-Za-z0-9._~-]{20,999}$`).MatchString(leg.token) {
				t.Errorf("%.40s: token of %d bytes: %s", d.id, len(leg.token), leg.token)
			}
		}
		w.leg(r.URL, r.Token)
		w.leg(serviceURL, serviceToken)
	}
}

// The C# client subscribes with a packet for each filter, and again for each request
// that it waits for; it hangs without an answer to every one.
func TestSubscribesAgainAndAgain(t *testing.T) {
	w := newWorld(t, hub.Options{})
	d := w.connected(w.login(w.AddDevice("pi-1")))
	for i := range 20 {
		for j, filter := range []string{wire.FilterStreamRequests, wire.FilterStreamResponses} {
			sub := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
			sub.MessageID, sub.Topics, sub.Qoss = uint16(2*i+j+1), []string{filter}, []byte{0}
			d.write(sub)
			if ack := d.suback(); ack.MessageID != sub.MessageID || len(ack.ReturnCodes) != 1 || ack.ReturnCodes[0] != 0 {
				t.Fatalf("SUBSCRIBE %d: %v", sub.MessageID, ack)
			}
		}
		if i%5 == 0 {
			w.stream(d).echo(t)
		}
	}
}

// The C# device SDK escapes an ID before it escapes the resource.
func TestResourceEscapedTwice(t *testing.T) {
	w := newWorld(t, hub.Options{})
	const id = "pi+1#a,b:c"
	key := w.AddDevice(id).SharedAccessKey
	twice := url.QueryEscape("localhost/devices/" + url.QueryEscape(id))
	w.connected(login{id: id, password: sas(twice, unix(time.Hour), key, "")}).ping()

	// A policy's token may be meant for the ID that holds the escapes.
	owner := w.ConnectionString("iothubowner").SharedAccessKey
	if _, code, err := w.connect(login{id: id, password: sas(twice, unix(time.Hour), owner, "&skn=iothubowner")}); err != nil || code == packets.Accepted {
		t.Errorf("a policy's token for another ID: CONNACK %d, %v", code, err)
	}
}

// A leg with the headers of each preview client, and nothing else.
func TestLegsAsTheSDKsDialThem(t *testing.T) {
	w := newWorld(t, hub.Options{})
	d := w.device(w.AddDevice("pi-1"))
	for name, more := range map[string]string{
		"C":    "Sec-WebSocket-Protocol: MQTT\r\n",
		"C#":   "",
		"Node": "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
	} {
		r, _, _ := w.opened(d)
		u, err := url.Parse(r.URL)
		if err != nil {
			t.Fatal(err)
		}
		got := w.raw(fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer %s\r\n%s\r\n", u.Path, u.Host, r.Token, more))
		wantProtocol := ""
		if name == "C" {
			wantProtocol = "MQTT"
		}
		if got.status != http.StatusSwitchingProtocols || got.header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" ||
			got.header.Get("Sec-WebSocket-Protocol") != wantProtocol || got.header.Get("Sec-WebSocket-Extensions") != "" {
			t.Errorf("%s: %d %v", name, got.status, got.header)
		}
	}
}
