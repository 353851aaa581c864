//go:build !linux

package netwatch

import (
	"context"
	"sync"
)

// listen returns false: Run has to look for itself.
func listen(context.Context, *sync.WaitGroup, chan<- hint) bool { return false }
