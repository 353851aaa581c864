package sysservice

import (
	"context"
	"io"
	"os"
	"strings"

	"github.com/kardianos/service"
)

// Run runs a service's work. Under Windows' service manager it answers that, ends ctx when
// told to stop, and gives work the event log to write to; otherwise log is nil. Work that
// ends by itself there ends the process with code 1, so that the manager starts it again.
func Run(ctx context.Context, work func(ctx context.Context, log io.Writer) error) error {
	if service.Interactive() {
		return work(ctx, nil)
	}
	p := &program{work: work, done: make(chan struct{})}
	p.ctx, p.stop = context.WithCancel(ctx)
	svc, err := service.New(p, &service.Config{Name: Name})
	if err != nil {
		return err
	}
	return svc.Run()
}

// program is the work as the service manager sees it.
type program struct {
	work func(ctx context.Context, log io.Writer) error
	ctx  context.Context
	stop context.CancelFunc
	done chan struct{}
}

// Start begins the work in the background.
func (p *program) Start(svc service.Service) error {
	logger, err := svc.SystemLogger(nil)
	if err != nil {
		return err
	}
	go func() {
		defer close(p.done)
		if p.work(p.ctx, eventLog{logger}); p.ctx.Err() == nil {
			os.Exit(1)
		}
	}()
	return nil
}

// Stop ends the work and waits for it; it has bounds of its own.
func (p *program) Stop(service.Service) error {
	p.stop()
	<-p.done
	return nil
}

// eventLog writes lines to Windows' event log.
type eventLog struct{ log service.Logger }

func (e eventLog) Write(p []byte) (int, error) {
	return len(p), e.log.Info(strings.TrimRight(string(p), "\r\n"))
}
