//go:build !windows

package sysservice

import (
	"context"
	"io"
)

// Run runs a service's work. Only Windows wants a service to answer its manager; elsewhere
// it is a plain program, and log is nil.
func Run(ctx context.Context, work func(ctx context.Context, log io.Writer) error) error {
	return work(ctx, nil)
}
