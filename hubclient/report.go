package hubclient

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/farportio/farport/internal/wire"
)

// reportTimeout is how long the hub may take to answer a report.
const reportTimeout = 15 * time.Second

// reports are the changes of reported properties that have not been answered.
type reports struct {
	mu      sync.Mutex
	last    int // number of the last one
	waiting map[string]chan<- int
}

// add makes a number for a report, and a place for the status that answers it.
func (r *reports) add() (rid string, answer <-chan int, forget func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting == nil {
		r.waiting = make(map[string]chan<- int)
	}
	r.last++
	rid = "farport-" + strconv.Itoa(r.last)
	c := make(chan int, 1)
	r.waiting[rid] = c
	return rid, c, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.waiting, rid)
	}
}

// reported takes the hub's answer to a report. It does not block.
func (d *Device) reported(answer wire.TwinAnswer) {
	d.reports.mu.Lock()
	defer d.reports.mu.Unlock()
	if c := d.reports.waiting[answer.RID]; c != nil {
		c <- answer.Status
		delete(d.reports.waiting, answer.RID) // a second answer has no place
	}
}

// ReportHostKeys tells the hub the public keys of this device's SSH server, in lines
// "TYPE BASE64", as reported properties of its twin; nil takes them away. Whoever may
// open streams can read them (HostKeys). It waits until the hub has stored them, 15 s at
// most.
func (d *Device) ReportHostKeys(ctx context.Context, keys []string) error {
	if err := d.report(ctx, wire.HostKeysPatch(keys)); err != nil {
		return fmt.Errorf("report host keys of %s: %w", named(Target(d.hub.cs)), err)
	}
	return nil
}

// ReportServices tells the hub the names that streams to this device can have, for people to
// choose from, as ReportHostKeys tells the keys; nil takes them away.
func (d *Device) ReportServices(ctx context.Context, names []string) error {
	if err := d.report(ctx, wire.ServicesPatch(names)); err != nil {
		return fmt.Errorf("report services of %s: %w", named(Target(d.hub.cs)), err)
	}
	return nil
}

func (d *Device) report(ctx context.Context, patch map[string]any) error {
	text, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, reportTimeout, &timeoutError{"answer to a report", reportTimeout})
	defer cancel()
	rid, answered, forget := d.reports.add()
	defer forget()
	if err := d.done(ctx, d.client.Subscribe(wire.FilterTwinAnswers, 0, nil)); err != nil {
		return err
	}
	if err := d.done(ctx, d.client.Publish(wire.TwinReportTopic(rid), 0, false, text)); err != nil {
		return err
	}
	select {
	case status := <-answered:
		if status >= http.StatusMultipleChoices {
			return fmt.Errorf("hub answered %d", status)
		}
		return nil
	case <-d.gone:
		return d.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// done waits for the library.
func (d *Device) done(ctx context.Context, token mqtt.Token) error {
	select {
	case <-token.Done():
	case <-d.gone:
		return d.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := token.Error(); err != nil {
		return d.failed(err)
	}
	return nil
}

// HostKeys are the public keys of a device's SSH server as its proxy has reported them,
// nil for none. They are the device's words: parse them before they are used or shown.
func HostKeys(t Twin) []string { return wire.ReportedHostKeys(t.Properties.Reported) }

// Services are the names that streams to a device can have, as its proxy has reported them;
// nil where it takes any, or does not say.
func Services(t Twin) []string { return wire.ReportedServices(t.Properties.Reported) }
