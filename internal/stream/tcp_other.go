//go:build !unix

package stream

// readChunk holds its buffer while it waits: this platform offers no other way.
func (t *tcp) readChunk() (*chunk, int, error) {
	c := chunks.Get().(*chunk)
	n, err := t.Read(c[:])
	return c, n, err
}
