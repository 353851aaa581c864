package resume

import (
	"hash/crc32"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/farportio/farport/internal/wire"
)

// chunk is a piece of memory that bytes stay in from the read that brings them to the
// write that takes them. It goes back to the pool when it is neither part of a buffer
// nor in use by a read or write that is under way.
type chunk struct {
	b      *[wire.Chunk]byte // apart: what follows is looked at often, and it fills its size class
	pins   int               // reads and writes under way
	inside bool              // part of a buffer
}

var chunks pool = &sync.Pool{New: func() any { return &chunk{b: new([wire.Chunk]byte)} }}

// pool is a sync.Pool, or one that counts.
type pool interface {
	Get() any
	Put(any)
}

func newChunk() *chunk {
	c := chunks.Get().(*chunk)
	c.inside = true
	return c
}

func (c *chunk) unpin() {
	c.pins--
	c.release(c.inside)
}

func (c *chunk) release(inside bool) {
	c.inside = inside
	if !inside && c.pins == 0 {
		chunks.Put(c)
	}
}

// leastRoom is how much of a chunk must be free for more bytes to be read into it:
// small pieces share one, bulk gets large reads.
const leastRoom = 16 << 10

// idlePieces is how many pieces an empty buffer may have a place for.
const idlePieces = 4

// buffer holds the bytes [start, end) of one direction in chunks, first in first out.
type buffer struct {
	start, end uint64
	pieces     []piece
}

// piece is what a chunk holds of a buffer, from the start of the chunk's bytes on.
type piece struct {
	*chunk
	at   uint64 // offset of b[0]
	size int    // bytes of it that are in use
}

func (b *buffer) size() uint64 { return b.end - b.start }

// room returns a chunk with free memory behind the last byte, pinned until filled.
func (b *buffer) room() (*chunk, []byte) {
	if n := len(b.pieces); n == 0 || wire.Chunk-b.pieces[n-1].size < leastRoom {
		b.pieces = append(b.pieces, piece{chunk: newChunk(), at: b.end})
	}
	last := b.pieces[len(b.pieces)-1]
	last.pins++
	return last.chunk, last.b[last.size:]
}

// filled takes the n bytes that were written to the last room into the buffer, unless
// it was emptied meanwhile.
func (b *buffer) filled(c *chunk, n int) {
	c.unpin()
	if last := len(b.pieces) - 1; last >= 0 && b.pieces[last].chunk == c {
		b.pieces[last].size += n
		b.end += uint64(n)
		b.trim()
	}
}

// view returns the bytes from an offset of the buffer on, as many as one chunk holds,
// and pins them.
func (b *buffer) view(from uint64) ([]byte, *chunk) {
	i := sort.Search(len(b.pieces), func(i int) bool { return from < b.pieces[i].at+uint64(b.pieces[i].size) })
	p := b.pieces[i]
	p.pins++
	return p.b[from-p.at : p.size], p.chunk
}

// copyTo adds the bytes [from, to) to a tail.
func (b *buffer) copyTo(t *tail, from, to uint64) {
	for from = max(from, minus(to, wire.CheckTail)); from < to; {
		bytes, c := b.view(from)
		bytes = bytes[:min(uint64(len(bytes)), to-from)]
		t.add(from, bytes)
		from += uint64(len(bytes))
		c.unpin()
	}
}

// drop forgets the bytes before offset to.
func (b *buffer) drop(to uint64) {
	b.start = max(b.start, to)
	b.trim()
}

// trim gives back chunks without bytes.
func (b *buffer) trim() {
	n := 0
	for n < len(b.pieces) {
		p := b.pieces[n]
		if p.at+uint64(p.size) > b.start || p.pins > 0 && n == len(b.pieces)-1 {
			break // more may be on its way into it
		}
		p.release(false)
		n++
	}
	b.forget(n)
}

// forget takes the first n pieces out.
func (b *buffer) forget(n int) {
	if n == 0 {
		return
	}
	rest := copy(b.pieces, b.pieces[n:])
	clear(b.pieces[rest:])
	b.pieces = b.pieces[:rest]
	if rest == 0 && cap(b.pieces) > idlePieces {
		b.pieces = nil
	}
}

// empty forgets everything.
func (b *buffer) empty() {
	for _, p := range b.pieces {
		p.release(false)
	}
	b.pieces, b.start = nil, b.end // pinned chunks are in use, and not part of it any more
}

// tail keeps the last wire.CheckTail bytes of a direction.
type tail struct {
	b [wire.CheckTail]byte // byte of offset i at i modulo its length
}

// add takes p, whose first byte has offset at.
func (t *tail) add(at uint64, p []byte) {
	if skip := len(p) - len(t.b); skip > 0 {
		at, p = at+uint64(skip), p[skip:]
	}
	for len(p) > 0 {
		n := copy(t.b[at%uint64(len(t.b)):], p)
		at, p = at+uint64(n), p[n:]
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// check is the CRC-32C of the last bytes before end, wire.CheckTail at most; all of
// them are in the tail.
func (t *tail) check(end uint64) uint32 {
	n := min(end, uint64(len(t.b)))
	crc := uint32(0)
	for at := end - n; at < end; {
		i := at % uint64(len(t.b))
		part := t.b[i:min(uint64(len(t.b)), i+end-at)]
		crc = crc32.Update(crc, castagnoli, part)
		at += uint64(len(part))
	}
	return crc
}

// DefaultBudget is what the streams of one process may promise and hold without being
// held short, in bytes. farport-v1.md section 8.
const DefaultBudget = 64 << 20

// Budget counts what the streams of a process have promised to take and what they hold
// unacknowledged. Once it is used up, streams get by with wire.EarlyData per direction.
// It is safe for concurrent use.
type Budget struct {
	most int64
	used atomic.Int64
}

// NewBudget returns a budget of that many bytes.
func NewBudget(most int64) *Budget { return &Budget{most: most} }

// Used is what is promised and held now, in bytes.
func (b *Budget) Used() int64 { return b.used.Load() }

func (b *Budget) short() bool { return b.used.Load() >= b.most }
