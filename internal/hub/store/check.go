package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"

	bolt "go.etcd.io/bbolt"
)

// check reads the whole file at path and reports the first thing that is not as
// farport left it. bbolt trusts what it maps: a changed byte can make it lose
// records, run in circles until the stack is full, or fall back to the state
// before the last write, so nothing of it runs before this has passed. The file
// is locked against writers meanwhile, and opened for reading only.
func check(path string) error {
	b, err := open(path, 0, bolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer b.Close()
	return b.guard(func() error {
		info, err := b.file.Stat()
		if err != nil {
			return err
		}
		if err := checkFile(b.file, uint64(info.Size())); err != nil {
			return &DamagedError{path, err}
		}
		return nil
	})
}

// checker walks every page that the newest meta page leads to.
type checker struct {
	file     io.ReaderAt
	pageSize uint64
	seen     []bool // by page number: part of a tree, or free
	header   *header
	records  uint64
}

func checkFile(file io.ReaderAt, size uint64) error {
	c := checker{file: file}
	m, err := c.newestMeta(size)
	if err != nil {
		return err
	}
	if m.pages < 4 || m.pages > size/c.pageSize || size%c.pageSize != 0 {
		return fmt.Errorf("%d bytes where %d pages of %d should be", size, m.pages, c.pageSize)
	}
	c.seen = make([]bool, m.pages)
	c.seen[0], c.seen[1] = true, true
	if err := c.walk(m.root, nil, nil, c.bucket); err != nil {
		return err
	}
	if c.header == nil {
		return errForeign
	}
	if c.records != c.header.Records {
		return fmt.Errorf("%d records where %d should be", c.records, c.header.Records)
	}
	return c.freelist(m.freelist)
}

// meta is one of the two pages that lead to everything else.
type meta struct{ root, freelist, pages, tx uint64 }

// newestMeta reads both meta pages. bbolt gets by with one, but that would
// quietly take back the last write. A write that was cut short leaves both
// whole: the older of the two is replaced at the very end, in one sector.
func (c *checker) newestMeta(size uint64) (meta, error) {
	c.pageSize = minPageSize // enough to read the page's own idea of it
	p, err := c.read(0, 0)
	if err != nil {
		return meta{}, errForeign
	}
	c.pageSize = uint64(binary.NativeEndian.Uint32(p[pageHeader+8:]))
	if c.pageSize < minPageSize || c.pageSize > maxPageSize || c.pageSize&(c.pageSize-1) != 0 || size < 4*c.pageSize {
		return meta{}, errForeign
	}
	var both [2]meta
	for id := range both {
		if both[id], err = c.meta(uint64(id)); err != nil {
			return meta{}, err
		}
	}
	older, newer := both[0], both[1]
	if older.tx > newer.tx {
		older, newer = newer, older
	}
	if newer.tx != older.tx+1 {
		return meta{}, errors.New("its two meta pages do not belong together")
	}
	return newer, nil
}

func (c *checker) meta(id uint64) (meta, error) {
	p, err := c.read(id, 0)
	if err != nil {
		return meta{}, err
	}
	body := p[pageHeader : pageHeader+metaSize]
	sum := fnv.New64a()
	sum.Write(body[:metaSize-8])
	n32, n64 := binary.NativeEndian.Uint32, binary.NativeEndian.Uint64
	m := meta{root: n64(body[16:]), freelist: n64(body[32:]), pages: n64(body[40:]), tx: n64(body[48:])}
	if n32(body) != metaMagic || n32(body[4:]) != metaVersion || n64(body[56:]) != sum.Sum64() ||
		p.id() != id || p.flags() != flagMeta || m.tx%2 != id {
		return meta{}, fmt.Errorf("meta page %d is not valid", id)
	}
	return m, nil
}

// read reads a page and the overflow pages after it.
func (c *checker) read(id, overflow uint64) (page, error) {
	p := make(page, (overflow+1)*c.pageSize)
	if _, err := c.file.ReadAt(p, int64(id*c.pageSize)); err != nil {
		return nil, fmt.Errorf("read page %d: %w", id, err)
	}
	return p, nil
}

// load reads a page of a tree or the freelist, each page once only.
func (c *checker) load(id uint64) (page, error) {
	if id >= uint64(len(c.seen)) {
		return nil, fmt.Errorf("page %d is beyond the end", id)
	}
	p, err := c.read(id, 0)
	if err != nil {
		return nil, err
	}
	if p.id() != id || p.overflow() >= uint64(len(c.seen))-id {
		return nil, fmt.Errorf("page %d has a wrong header", id)
	}
	for i := id; i <= id+p.overflow(); i++ {
		if err := c.mark(i); err != nil {
			return nil, err
		}
	}
	if p.overflow() == 0 {
		return p, nil
	}
	return c.read(id, p.overflow())
}

func (c *checker) mark(id uint64) error {
	if id >= uint64(len(c.seen)) || c.seen[id] {
		return fmt.Errorf("page %d is used twice or beyond the end", id)
	}
	c.seen[id] = true
	return nil
}

// walk goes through the tree at page id, whose keys must rise from low on and
// stay below high; nil means no bound.
func (c *checker) walk(id uint64, low, high []byte, leaf leafFunc) error {
	p, err := c.load(id)
	if err != nil {
		return err
	}
	switch p.flags() {
	case flagLeaf:
		return p.eachLeaf(low, high, leaf)
	case flagBranch:
		return c.branch(p, low, high, leaf)
	}
	return fmt.Errorf("page %d is of the wrong type", id)
}

func (c *checker) branch(p page, low, high []byte, leaf leafFunc) error {
	if p.count() == 0 {
		return fmt.Errorf("page %d leads nowhere", p.id())
	}
	for i := range p.count() {
		key, child, err := p.branchElement(i)
		if err != nil {
			return err
		}
		next := high
		if i+1 < p.count() {
			if next, _, err = p.branchElement(i + 1); err != nil {
				return err
			}
		}
		if bytes.Compare(key, low) < 0 || next != nil && bytes.Compare(key, next) >= 0 {
			return fmt.Errorf("page %d has its keys in disorder", p.id())
		}
		if err := c.walk(child, key, next, leaf); err != nil {
			return err
		}
	}
	return nil
}

// bucket checks one element of the root tree.
func (c *checker) bucket(flags uint32, name, value []byte) error {
	if flags != flagBucket || len(value) < bucketSize {
		return errForeign
	}
	leaf := func(flags uint32, key, sealed []byte) error { return c.record(string(name), flags, key, sealed) }
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return c.walk(root, nil, nil, leaf)
	}
	inline := page(value[bucketSize:])
	if len(inline) < pageHeader || inline.flags() != flagLeaf {
		return fmt.Errorf("bucket %q is not valid", name)
	}
	return inline.eachLeaf(nil, nil, leaf)
}

// record checks one record, or the header.
func (c *checker) record(kind string, flags uint32, key, sealed []byte) error {
	if flags != 0 {
		return errForeign
	}
	if kind == headerBucket {
		h, err := parseHeader(sealed)
		if err != nil || string(key) != headerKey {
			return errForeign
		}
		c.header = &h
		return nil
	}
	c.records++
	_, _, err := unseal(kind, key, sealed)
	return err
}

// freelist checks that the pages in no tree are just those listed as free: a
// page that is both would be overwritten, one that is neither has lost its tree.
func (c *checker) freelist(id uint64) error {
	p, err := c.load(id)
	if err != nil {
		return err
	}
	if p.flags() != flagFreelist {
		return fmt.Errorf("page %d is not the list of free pages", id)
	}
	list, n := p[pageHeader:], uint64(p.count())
	if n == manyFree {
		n, list = binary.NativeEndian.Uint64(list), list[8:]
	}
	if n > uint64(len(list)/8) {
		return errors.New("the list of free pages is cut")
	}
	for i := range n {
		if err := c.mark(binary.NativeEndian.Uint64(list[8*i:])); err != nil {
			return err
		}
	}
	for id, seen := range c.seen {
		if !seen {
			return fmt.Errorf("page %d belongs nowhere", id)
		}
	}
	return nil
}
