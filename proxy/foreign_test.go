package proxy_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/url"
	"strconv"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/hub"
	"github.com/farportio/farport/internal/hubtest"
	"github.com/farportio/farport/internal/stream"
	"github.com/farportio/farport/internal/wire"
	"github.com/farportio/farport/proxy"
)

// addForeign registers a device and runs a device's side that is not farport's: it offers
// nothing, so its streams are plain.
func (w *world) addForeign(id, target string) {
	w.t.Helper()
	cs := w.hub.AddDevice(id)
	password, err := cs.SAS(time.Now().Add(time.Hour))
	if err != nil {
		w.t.Fatal(err)
	}
	insecure := &tls.Config{InsecureSkipVerify: true}
	user := wire.UserName{Host: credential.Resource(cs.HostName, "", ""), DeviceID: id, Params: url.Values{"api-version": {wire.APIVersionDevice}}}
	ctx, cancel := context.WithCancel(context.Background())
	carry := func(url, token string) {
		leg, err := stream.Dial(ctx, url, token, stream.DialOptions{TLS: insecure})
		if err != nil {
			w.t.Error(err)
			return
		}
		conn, err := net.Dial("tcp", target)
		if err != nil {
			w.t.Error(err)
			leg.Close()
			return
		}
		_ = stream.Pipe(ctx, leg, stream.TCP(conn.(*net.TCPConn)), new(stream.Meter)) // the other side tells
	}
	client := mqtt.NewClient(mqtt.NewClientOptions().
		AddBroker("ssl://" + net.JoinHostPort(cs.Host(), strconv.Itoa(w.hub.MQTTPort()))).
		SetClientID(id).SetUsername(user.String()).SetPassword(password.Reveal()).
		SetTLSConfig(insecure).SetProtocolVersion(4).SetAutoReconnect(false).
		SetOrderMatters(false).
		SetDefaultPublishHandler(func(c mqtt.Client, m mqtt.Message) {
			if asked, ok := wire.ParseStreamRequest(m.Topic()); ok {
				c.Publish(wire.StreamResponse{Status: wire.StatusAccept, RID: asked.RID}.Topic(), 0, false, "")
				carry(asked.URL, asked.Token)
			}
		}))
	for _, step := range []func() mqtt.Token{
		client.Connect,
		func() mqtt.Token { return client.Subscribe(wire.FilterStreamRequests, 0, nil) },
	} {
		if done := step(); !done.WaitTimeout(20*time.Second) || done.Error() != nil {
			w.t.Fatalf("foreign device: %v", done.Error())
		}
	}
	w.t.Cleanup(func() {
		cancel()
		client.Disconnect(250)
	})
}

// Towards a device that is not farport's, input that never ends does not keep a stream
// whose other side is done.
func TestStdioToForeignDevice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hub.Options{})
	w.addForeign("pi-1", hubtest.Serve(t, func(c *net.TCPConn) {
		_, _ = io.Copy(c, io.LimitReader(c, 5))
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	}))
	in, hold := io.Pipe()
	defer hold.Close()
	go func() { _, _ = hold.Write([]byte("hello")) }()
	var out closer
	if err := proxy.RunStdio(t.Context(), proxy.ServiceOptions{Hub: w.service, DeviceID: "pi-1"}, "default", in, &out); err != nil || out.String() != "hello" {
		t.Errorf("got %q, %v", out.String(), err)
	}
}
