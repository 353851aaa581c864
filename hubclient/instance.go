package hubclient

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/farportio/farport/internal/stream"
	"github.com/farportio/farport/internal/wire"
)

// How long an extended stream may be without a connection unless told otherwise, and the
// most that can be asked for.
const (
	DefaultResumeWindow = wire.DefaultResumeWindow
	MaxResumeWindow     = wire.MaxResumeWindow
)

// Instance is one run of a program, which is what may take up a stream again that has
// lost its connection: it holds a secret that never leaves memory and TLS, and shows as
// nothing but its public ID. It is safe for concurrent use.
type Instance struct {
	secret string
	id     string // wire.InstanceID
}

// NewInstance makes an Instance unlike any other.
func NewInstance() *Instance {
	secret := wire.NewInstance()
	return &Instance{secret, wire.InstanceID(secret)}
}

// String returns the public ID.
func (i *Instance) String() string { return i.id }

// Format writes the public ID whatever the verb; without it a wrong verb such as %d would
// print the secret.
func (i *Instance) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, i.id) }

// LogValue returns the public ID for log/slog.
func (i *Instance) LogValue() slog.Value { return slog.StringValue(i.id) }

// offer is what an end of that instance is ready for.
func (i *Instance) offer(o Options) wire.Offer {
	window := o.ResumeWindow
	if window == 0 {
		window = DefaultResumeWindow
	}
	return wire.Offer{Instance: i.id, Window: min(max(window, 0), MaxResumeWindow)}
}

// Change says that an extended stream waits for its other end, or no longer does.
type Change = stream.Change

// keep says how a stream is kept once it is open.
type keep struct {
	grant   wire.Grant
	changed func(Change)
	linger  time.Duration
}
