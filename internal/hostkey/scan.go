package hostkey

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// scanTimeout bounds one connection of a scan. sshd says its name at once.
const scanTimeout = 10 * time.Second

// kinds are the algorithms that are asked for, one connection each: a server shows only
// the key that was agreed on. RSA keys sign with SHA-2 alone.
var kinds = [][]string{
	{ssh.KeyAlgoED25519}, {ssh.KeyAlgoECDSA256}, {ssh.KeyAlgoECDSA384}, {ssh.KeyAlgoECDSA521},
	{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256},
}

// ErrNotSSH is returned for a server that is no SSH server.
var ErrNotSSH = errors.New("the server does not speak SSH")

// errBusy is returned for an sshd that takes no more connections just now.
var errBusy = errors.New("the SSH server refuses the connection for now")

// busy is what OpenSSH's sshd says instead of its name past MaxStartups, or to a source
// with PerSourcePenalties: all streams come from the same one.
var busy = []string{"Exceeded MaxStartups", "Not allowed at this time"}

// errSeen ends a handshake once the key is known.
var errSeen = errors.New("host key seen")

// Scan asks an SSH server for all its host keys. Each is one that the server has proven
// to hold, by the key exchange of RFC 4253 section 8; nobody logs in. It is all keys or an
// error, since a set that lacks some now would look changed later. dial connects to the
// server, each time anew.
func Scan(ctx context.Context, dial func(context.Context) (net.Conn, error)) (Set, error) {
	var keys []Key
	for i, algorithms := range kinds {
		key, found, err := scanOne(ctx, dial, algorithms)
		if i > 0 && errors.Is(err, ErrNotSSH) { // it did before
			return nil, errBusy
		}
		if err != nil {
			return nil, err
		}
		if found {
			keys = append(keys, key)
		}
	}
	return newSet(keys), nil
}

// scanOne asks for a key for these algorithms. There may be none.
func scanOne(ctx context.Context, dial func(context.Context) (net.Conn, error), algorithms []string) (key Key, found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	conn, err := dial(ctx)
	if err != nil {
		return Key{}, false, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	heard := bufio.NewReader(conn)
	if err := hearName(ctx, heard); err != nil {
		return Key{}, false, err
	}
	config := &ssh.ClientConfig{
		HostKeyAlgorithms: algorithms,
		HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error {
			key, found = of(k), true
			return errSeen
		},
	}
	_, _, _, err = ssh.NewClientConn(&heardConn{conn, heard}, "", config)
	if found {
		return key, true, nil
	}
	if e, ok := errors.AsType[*ssh.AlgorithmNegotiationError](err); ok && strings.Contains(e.What, "host key") {
		return Key{}, false, nil
	}
	return Key{}, false, fmt.Errorf("ask for a host key: %w", err)
}

// hearName returns nil for a server that says the name of an SSH server. Others, RDP for
// one, are not to be sent what they cannot read, and most wait for the client.
func hearName(ctx context.Context, heard *bufio.Reader) error {
	name, err := heard.Peek(4)
	switch {
	case err == nil && string(name) == "SSH-":
		return nil
	case err != nil && ctx.Err() == nil:
		return fmt.Errorf("hear the SSH server's name: %w", err)
	case err != nil:
		return ErrNotSSH
	}
	for _, words := range busy {
		if !strings.HasPrefix(words, string(name)) {
			continue
		}
		if said, _ := heard.Peek(len(words)); string(said) == words {
			return errBusy
		}
	}
	return ErrNotSSH
}

// heardConn is a connection whose first bytes are read already.
type heardConn struct {
	net.Conn
	heard *bufio.Reader
}

func (c *heardConn) Read(p []byte) (int, error) { return c.heard.Read(p) }
