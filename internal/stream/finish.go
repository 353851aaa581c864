package stream

import (
	"time"

	"github.com/farportio/farport/internal/wire"
)

// Finish ends the stream and frees the leg as close(2) does with TCP: what was written
// arrives, with its end right behind it instead of after the drain time. It waits for the
// peer's end, closeReply at most; should the peer send bytes first, which nobody reads
// any more, the stream is broken off. It is for whoever wants no more of either
// direction, where Close breaks off what has not ended.
func (c *Conn) Finish() {
	defer func() { _ = c.Close() }() // frees the leg; there is nobody to tell
	_ = c.SetReadDeadline(time.Time{})
	c.sendClose(wire.CloseNormal, "")
	_, _ = c.Read(make([]byte, 1)) // whatever comes of it, Close does the rest
}
