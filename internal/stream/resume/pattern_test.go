package resume

import "math/rand/v2"

// period is the length after which the applications' bytes repeat: a prime, so that no
// confusion of offsets by a round number goes unseen.
const period = 1048573

var table = func() []byte {
	b := make([]byte, period, 2*period)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return append(b, b...)
}()

// pattern returns the bytes [from, from+n) that a side's application writes, to read.
func pattern(side int, from uint64, n int) []byte {
	from += uint64(side) * 400_009
	if n > period {
		var all []byte
		for n > 0 {
			part := table[from%period:][:min(n, period)]
			all, from, n = append(all, part...), from+uint64(len(part)), n-len(part)
		}
		return all
	}
	return table[from%period:][:n:n]
}
