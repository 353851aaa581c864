// Package credential parses, prints, signs and verifies what lets somebody in:
// connection strings, SAS tokens and the symmetric keys behind them. Everything
// secret redacts itself when it is printed, logged or marshalled; Reveal gives
// the real text. Who may do what with a credential is for the hub to decide.
// The formats are told in docs/protocol.md, SAS tokens and connection strings.
//
// All values are immutable once made and safe for concurrent use.
package credential

import (
	"fmt"
	"io"
	"log/slog"
)

// redacted is what is shown in place of a secret.
const redacted = "[redacted]"

// Secret is text nobody may read in a log, an error or a dump: a SAS token, a
// password. It shows as "[redacted]" under every fmt verb, in log/slog and in
// JSON. One gap is Go's: fmt cannot call methods on unexported struct fields, so
// a type that keeps a Secret in one has to redact itself.
type Secret string

// Reveal returns the real text.
func (s Secret) Reveal() string { return string(s) }

// String returns "[redacted]".
func (s Secret) String() string { return redacted }

// Format writes "[redacted]" whatever the verb; without it a wrong verb such as
// %d would print the text.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// LogValue returns "[redacted]" for log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "[redacted]", in JSON too; it never fails.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
