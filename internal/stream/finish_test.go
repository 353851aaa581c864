package stream

import (
	"io"
	"testing"
	"time"

	"github.com/farportio/farport/internal/wire"
)

// The end is told at once, and waits for the peer's.
func TestFinish(t *testing.T) {
	near, far := plainPair(t)
	if _, err := io.WriteString(near, "last words"); err != nil {
		t.Fatal(err)
	}
	began, done := time.Now(), make(chan struct{})
	go func() {
		defer close(done)
		near.Finish()
	}()
	if got, err := io.ReadAll(onlyReader{far}); string(got) != "last words" || err != nil {
		t.Errorf("peer reads %q, %v", got, err)
	}
	if waited := time.Since(began); waited >= wire.DrainSilence {
		t.Errorf("peer waits %s for the end", waited)
	}
	select {
	case <-done:
		t.Error("over before the peer has ended")
	default:
	}
	if err := far.CloseWrite(); err != nil {
		t.Error(err)
	}
	<-done
}

// What nobody reads any more breaks the stream off.
func TestFinishUnread(t *testing.T) {
	near, far := plainPair(t)
	if _, err := io.WriteString(far, "unread"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	near.Finish()
	if waited := time.Since(began); waited >= closeReply {
		t.Errorf("waited %s for a peer that goes on", waited)
	}
}
