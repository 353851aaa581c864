package store

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// Layout of a bbolt file, version 2, numbers in the machine's byte order.
// Source: go.etcd.io/bbolt internal/common, page.go, meta.go, bucket.go.
const (
	pageHeader = 16 // id 8, flags 2, count 2, overflow 4
	element    = 16 // leaf: flags 4, pos 4, ksize 4, vsize 4; branch: pos 4, ksize 4, page 8
	metaSize   = 64 // magic 4, version 4, page size 4, flags 4, root 16, freelist 8, pages 8, tx 8, sum 8
	bucketSize = 16 // root page 8, sequence 8; an inline page follows when the root is 0

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFreelist = 0x10
	flagBucket   = 0x01 // of a leaf element

	metaMagic   = 0xED0CDAED
	metaVersion = 2
	minPageSize = 1 << 10
	maxPageSize = 1 << 24
	manyFree    = 0xFFFF // a freelist's count that means: the real one is its first entry
)

// page is one page with its overflow.
type page []byte

func (p page) id() uint64       { return binary.NativeEndian.Uint64(p) }
func (p page) flags() uint16    { return binary.NativeEndian.Uint16(p[8:]) }
func (p page) count() int       { return int(binary.NativeEndian.Uint16(p[10:])) }
func (p page) overflow() uint64 { return uint64(binary.NativeEndian.Uint32(p[12:])) }

// leafFunc gets each element of a tree.
type leafFunc func(flags uint32, key, value []byte) error

func (p page) branchElement(i int) (key []byte, child uint64, err error) {
	e, err := p.element(i)
	if err != nil {
		return nil, 0, err
	}
	n32 := binary.NativeEndian.Uint32
	key, _, err = cut(e, n32(e), n32(e[4:]), 0)
	return key, binary.NativeEndian.Uint64(e[8:]), err
}

func (p page) eachLeaf(low, high []byte, leaf leafFunc) error {
	for i := range p.count() {
		e, err := p.element(i)
		if err != nil {
			return err
		}
		n32 := binary.NativeEndian.Uint32
		key, value, err := cut(e, n32(e[4:]), n32(e[8:]), n32(e[12:]))
		if err != nil {
			return err
		}
		if bytes.Compare(key, low) < 0 || i > 0 && bytes.Equal(key, low) || high != nil && bytes.Compare(key, high) >= 0 {
			return errors.New("keys in disorder")
		}
		low = key
		if err := leaf(n32(e), key, value); err != nil {
			return err
		}
	}
	return nil
}

// element returns the page from its element i on, as positions count from there.
func (p page) element(i int) ([]byte, error) {
	at := pageHeader + i*element
	if at+element > len(p) {
		return nil, errors.New("a page is too short for its elements")
	}
	return p[at:], nil
}

// cut returns the key and value at pos.
func cut(e []byte, pos, keySize, valueSize uint32) (key, value []byte, err error) {
	start, mid := uint64(pos), uint64(pos)+uint64(keySize)
	end := mid + uint64(valueSize)
	if keySize == 0 || end > uint64(len(e)) {
		return nil, nil, errors.New("an element reaches beyond its page")
	}
	return e[start:mid], e[mid:end], nil
}
