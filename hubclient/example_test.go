package hubclient_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/farportio/farport/hubclient"
)

// A web server on a device that no network leads to, and a client for it.
func Example_http() {
	hub := startHub()
	defer hub.stop()

	// On the device.
	device, err := hubclient.DialDevice(context.Background(), hub.device("pi-1"), hubclient.DeviceOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer device.Close()
	listener, err := device.Listen("http")
	if err != nil {
		fmt.Println(err)
		return
	}
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "this is %s\n", r.Host)
	})}
	defer server.Close()
	go func() { _ = server.Serve(listener) }()

	// Anywhere else.
	service, err := hubclient.NewService(hub.service(), hubclient.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer service.Close()
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return service.DialContext(ctx, host, "http")
		},
	}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Get("http://pi-1/")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer answer.Body.Close()
	_, _ = io.Copy(os.Stdout, answer.Body)
	// Output: this is pi-1
}

// A Conn is like a TCP connection. To log in by SSH, give it to
// golang.org/x/crypto/ssh: ssh.NewClientConn(conn, conn.RemoteAddr().String(), config).
func ExampleService_DialContext() {
	hub := startHub()
	defer hub.stop()
	defer serve(hub.device("pi-1"), "upper", func(conn net.Conn) {
		line, _ := bufio.NewReader(conn).ReadString('\n')
		_, _ = io.WriteString(conn, strings.ToUpper(line))
	})()

	service, err := hubclient.NewService(hub.service(), hubclient.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer service.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := service.DialContext(ctx, "pi-1", "upper")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()
	fmt.Println("connected to", conn.RemoteAddr())
	_, _ = io.WriteString(conn, "hello\n")
	line, err := bufio.NewReader(conn).ReadString('\n')
	fmt.Print(line)
	if err != nil {
		fmt.Println(err)
	}

	_, err = service.DialContext(ctx, "pi-1", "nothing-here")
	fmt.Println(err)
	// Output:
	// connected to pi-1:upper
	// HELLO
	// dial farport pi-1:nothing-here: device rejected the stream
}

// A device answers requests itself where a listener is not enough.
func ExampleDevice_Next() {
	hub := startHub()
	defer hub.stop()
	device, err := hubclient.DialDevice(context.Background(), hub.device("pi-1"), hubclient.DeviceOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer device.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		request, err := device.Next(context.Background())
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("asked for", request.Name)
		if err := request.Reject(context.Background()); err != nil {
			fmt.Println(err)
		}
	}()

	service, err := hubclient.NewService(hub.service(), hubclient.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer service.Close()
	_, err = service.DialContext(context.Background(), "pi-1", "shell")
	<-done
	fmt.Println(err)
	// Output:
	// asked for shell
	// dial farport pi-1:shell: device rejected the stream
}

// serve handles the connections to a device's service until stop is called.
func serve(cs hubclient.ConnectionString, service string, handle func(net.Conn)) (stop func()) {
	device, err := hubclient.DialDevice(context.Background(), cs, hubclient.DeviceOptions{})
	if err != nil {
		panic(err)
	}
	listener, err := device.Listen(service)
	if err != nil {
		panic(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			handle(conn)
			conn.Close()
		}
	}()
	return func() { device.Close(); <-done }
}
