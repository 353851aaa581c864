package proxy

import (
	"context"
	"sync"

	"github.com/farportio/farport/internal/netwatch"
)

// Watch calls changed whenever the machine's network may have changed, one call at a
// time, and returns some time after ctx has ended.
type Watch func(ctx context.Context, changed func())

// network is the machine's network as a proxy sees it: from one change to the next.
type network struct {
	watching sync.WaitGroup
	stop     context.CancelFunc

	mu    sync.Mutex
	epoch context.Context // ends with the next change
	end   context.CancelFunc
}

// watch begins to look, by way of netwatch.Run if by is nil. heard is called at each
// change. The caller closes the network.
func (n *network) watch(by Watch, heard func()) {
	if by == nil {
		by = netwatch.Run
	}
	n.epoch, n.end = context.WithCancel(context.Background())
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	n.watching.Go(func() {
		by(ctx, func() {
			n.next()
			heard()
		})
	})
}

// next ends the epoch and begins another.
func (n *network) next() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.end()
	n.epoch, n.end = context.WithCancel(context.Background())
}

// changed returns a context that ends with the next change.
func (n *network) changed() context.Context {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.epoch
}

func (n *network) close() {
	n.stop()
	n.watching.Wait()
	n.end()
}
