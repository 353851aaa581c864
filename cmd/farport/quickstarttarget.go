package main

import (
	"bytes"
	"context"
	_ "embed" // the page
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

//go:embed quickstart.html
var quickstartPage []byte

// Kinds of targets.
const (
	kindSSH = iota + 1
	kindPage
	kindOther
)

// quickstartGoal is what the device forwards to.
type quickstartGoal struct {
	kind    int
	address string
	service string // the stream's name
}

// chooseTarget is the one asked for, the local sshd, or a page of our own.
func (q *quickstart) chooseTarget(ctx context.Context, asked string) (string, error) {
	if asked != "" {
		q.target = quickstartGoal{kindOther, asked, defaultService}
		if banner, err := greeting(ctx, asked); err != nil {
			return "", err
		} else if isSSH(banner) {
			q.target = quickstartGoal{kindSSH, asked, "ssh"}
		}
		return asked + ", as asked for", nil
	}
	sshd := net.JoinHostPort(defaultTargetHost, defaultTargetPort)
	if banner, err := greeting(ctx, sshd); err == nil && isSSH(banner) {
		q.target = quickstartGoal{kindSSH, sshd, "ssh"}
		return "the sshd of this machine, " + sshd, nil
	}
	address, err := q.servePage()
	q.target = quickstartGoal{kindPage, address, "http"}
	return "a page of farport's own, http://" + address + "/ (no sshd answers on port 22)", err
}

func isSSH(banner []byte) bool { return bytes.HasPrefix(banner, []byte("SSH-")) }

// servePage serves the page until the end.
func (q *quickstart) servePage() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: http.HandlerFunc(writePage), ReadHeaderTimeout: quickstartSetup}
	q.goOn("page", func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { _ = server.Close() })() // the listener is closed twice
		if err := server.Serve(l); ctx.Err() == nil {
			return err
		}
		return nil
	})
	return l.Addr().String(), nil
}

func writePage(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(quickstartPage)))
	_, _ = w.Write(quickstartPage) // the browser has gone if this fails
}

// How long a server may take to greet, and to answer.
const (
	greetingWait = 300 * time.Millisecond
	answerWait   = 2 * time.Second
)

// greeting is what a server says by itself, nothing if it waits for the client.
func greeting(ctx context.Context, address string) ([]byte, error) {
	conn, err := dialFor(ctx, address, greetingWait)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return readSome(conn)
}

// dialFor connects, for that long altogether.
func dialFor(ctx context.Context, address string, wait time.Duration) (net.Conn, error) {
	dialer := net.Dialer{Timeout: wait}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(wait))
}

// readSome reads what there is. Silence is no error.
func readSome(r io.Reader) ([]byte, error) {
	text := make([]byte, 4<<10)
	n, err := r.Read(text)
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, io.EOF) {
		err = nil
	}
	return text[:n], err
}

// exchange sends something through the stream and says what came back.
func (q *quickstart) exchange(ctx context.Context) (string, error) {
	switch q.target.kind {
	case kindPage:
		return q.exchangePage(ctx)
	case kindSSH:
		return q.exchangeBytes(ctx, "SSH-2.0-farport_quickstart\r\n", true)
	}
	return q.exchangeBytes(ctx, "GET / HTTP/1.0\r\n\r\n", false)
}

func (q *quickstart) exchangePage(ctx context.Context) (string, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: answerWait}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+q.local+"/", nil)
	if err != nil {
		return "", err
	}
	answer, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, int64(len(quickstartPage))+1))
	if err != nil {
		return "", err
	}
	if answer.StatusCode != http.StatusOK || !bytes.Equal(body, quickstartPage) {
		return "", fmt.Errorf("the page came back changed: %s, %d bytes", answer.Status, len(body))
	}
	return fmt.Sprintf("asked for the page through the stream, got all its %d bytes back", len(body)), nil
}

// exchangeBytes says something to the target and waits for an answer, after its
// greeting where it greets.
func (q *quickstart) exchangeBytes(ctx context.Context, say string, greets bool) (string, error) {
	conn, err := dialFor(ctx, q.local, answerWait)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	var banner []byte
	if greets {
		if banner, err = readSome(conn); err != nil {
			return "", err
		}
	}
	if _, err := io.WriteString(conn, say); err != nil {
		return "", err
	}
	answer, err := readSome(conn)
	switch {
	case err != nil:
		return "", err
	case len(answer) == 0:
		return "", fmt.Errorf("%s was sent %d bytes through the stream and answered nothing within %s", q.target.address, len(say), answerWait)
	}
	if greets {
		first, _, _ := strings.Cut(string(banner), "\n")
		return fmt.Sprintf("%s through the stream: %d bytes up, %d bytes down", strings.TrimSpace(first), len(say), len(banner)+len(answer)), nil
	}
	return fmt.Sprintf("%d bytes up, %d bytes down through the stream", len(say), len(answer)), nil
}
