// Package doctor checks the steps between this machine and a device, one after the
// other, and measures what a stream can tell. It decides and words; connections are
// hubclient's, and what it prints on is its caller's.
package doctor

import (
	"context"
	"time"
)

// Status is how a check went.
type Status string

// The values of Status.
const (
	OK      Status = "ok"
	Warning Status = "warning" // it works, but not for long, or less well than it could
	Failed  Status = "failed"
	Skipped Status = "skipped" // not tried
)

// Result is what came of one check.
type Result struct {
	Check  string  `json:"check"`
	Status Status  `json:"status"`
	Detail string  `json:"detail"`
	Hint   string  `json:"hint"` // what to do; "" when there is nothing
	Took   float64 `json:"took"` // milliseconds; 0 when skipped
}

// Check is one step. Run returns what it found, in which Check, Took and a Status of OK
// may be left out. An error fails the check, and those behind it are skipped.
type Check struct {
	Name string
	Run  func(ctx context.Context) (Result, error)
}

// Problem is an error of a check that has a hint of its own.
type Problem struct {
	Text string
	Hint string
	Err  error // what it amounts to: one of hubclient's sentinels
}

func (p *Problem) Error() string { return p.Text }
func (p *Problem) Unwrap() error { return p.Err }

// Run makes the checks in order and reports each result as soon as it is there. hint
// says what to do about an error. It returns the first failure's error; once ctx has
// ended, its cause.
func Run(ctx context.Context, checks []Check, hint func(error) string, report func(Result)) error {
	var failure error
	failed := ""
	for _, c := range checks {
		if failure != nil {
			report(Result{Check: c.Name, Status: Skipped, Detail: "not tried, as " + failed + " failed"})
			continue
		}
		began := time.Now()
		r, err := c.Run(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.Check = c.Name
		if r.Status != Skipped {
			r.Took = Milliseconds(time.Since(began))
		}
		switch {
		case err != nil:
			failure, failed = err, c.Name
			r.Status, r.Detail, r.Hint = Failed, err.Error(), hint(err)
		case r.Status == "":
			r.Status = OK
		}
		report(r)
	}
	return failure
}

// Milliseconds is d as JSON has it, with microseconds as fraction.
func Milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}
