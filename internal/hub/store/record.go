package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	bolt "go.etcd.io/bbolt"
)

// sealSize is what stands before a value in the file: the revision and a
// CRC-32C over kind, key, revision and value.
const sealSize = 8 + 4

// seal returns the value as it is stored. Kind and key are part of the
// checksum, so a record in the wrong place is a damaged one.
func seal(kind string, key []byte, revision uint64, value []byte) []byte {
	sealed := make([]byte, sealSize, sealSize+len(value))
	binary.BigEndian.PutUint64(sealed, revision)
	sealed = append(sealed, value...)
	binary.BigEndian.PutUint32(sealed[8:], checksum(kind, key, sealed))
	return sealed
}

// unseal is the opposite of seal. The value is a part of sealed.
func unseal(kind string, key, sealed []byte) (revision uint64, value []byte, err error) {
	if len(sealed) < sealSize || binary.BigEndian.Uint32(sealed[8:]) != checksum(kind, key, sealed) {
		return 0, nil, fmt.Errorf("%s record %q has a wrong checksum", kind, key)
	}
	return binary.BigEndian.Uint64(sealed), sealed[sealSize:], nil
}

func checksum(kind string, key, sealed []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli) // made once by the library
	sum := crc32.Update(0, table, []byte(kind))
	sum = crc32.Update(sum, table, []byte{0}) // "ab"+"c" is not "a"+"bc"
	sum = crc32.Update(sum, table, key)
	sum = crc32.Update(sum, table, []byte{0})
	sum = crc32.Update(sum, table, sealed[:8])
	return crc32.Update(sum, table, sealed[sealSize:])
}

// Where the header is kept: it marks the file as farport's and names the format.
const (
	headerBucket = "farport"
	headerKey    = "v1"
)

var errForeign = errors.New("not a farport store")

// header counts what has been written and what is there, all kinds together:
// with that, a page that lost some of its records cannot pass for a whole one.
type header struct {
	Revision uint64 // the last one given out
	Records  uint64
}

// next gives out a revision.
func (h *header) next() uint64 {
	h.Revision++
	return h.Revision
}

func parseHeader(sealed []byte) (header, error) {
	revision, value, err := unseal(headerBucket, []byte(headerKey), sealed)
	if err != nil || len(value) != 8 {
		return header{}, errForeign
	}
	return header{revision, binary.BigEndian.Uint64(value)}, nil
}

func readHeader(tx *bolt.Tx) (header, error) {
	bucket := tx.Bucket([]byte(headerBucket))
	if bucket == nil {
		return header{}, errForeign
	}
	return parseHeader(bucket.Get([]byte(headerKey)))
}

func writeHeader(tx *bolt.Tx, h header) error {
	bucket, err := tx.CreateBucketIfNotExists([]byte(headerBucket))
	if err != nil {
		return err
	}
	records := binary.BigEndian.AppendUint64(nil, h.Records)
	return bucket.Put([]byte(headerKey), seal(headerBucket, []byte(headerKey), h.Revision, records))
}
