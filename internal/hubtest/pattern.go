package hubtest

import "encoding/binary"

// Pattern is endless data of which each byte follows from the key and its offset, so
// that bytes that are lost, repeated, swapped or of another stream show.
type Pattern uint64

// Fill writes the bytes from offset on into p.
func (k Pattern) Fill(p []byte, offset int64) {
	var word [8]byte
	for len(p) > 0 {
		if skip := offset % 8; skip != 0 || len(p) < 8 {
			binary.LittleEndian.PutUint64(word[:], k.word(offset/8))
			n := copy(p, word[skip:])
			p, offset = p[n:], offset+int64(n)
			continue
		}
		binary.LittleEndian.PutUint64(p, k.word(offset/8))
		p, offset = p[8:], offset+8
	}
}

// Wrong returns the offset of the first byte of p that is not the pattern's, where p
// should be its bytes from offset on; -1 if all are right.
func (k Pattern) Wrong(p []byte, offset int64) int64 {
	var want [4096]byte
	for len(p) > 0 {
		n := min(len(p), len(want))
		k.Fill(want[:n], offset)
		for i, b := range p[:n] {
			if b != want[i] {
				return offset + int64(i)
			}
		}
		p, offset = p[n:], offset+int64(n)
	}
	return -1
}

// word is the n-th eight bytes, by SplitMix64.
func (k Pattern) word(n int64) uint64 {
	z := uint64(k) + uint64(n+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
