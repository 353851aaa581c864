package hubtest

import "testing"

func TestPattern(t *testing.T) {
	const key = Pattern(7)
	whole := make([]byte, 10_000)
	key.Fill(whole, 0)
	for _, at := range []int64{0, 1, 7, 8, 4095, 9_990} {
		part := whole[at:min(at+1_003, int64(len(whole)))]
		if wrong := key.Wrong(part, at); wrong != -1 {
			t.Errorf("bytes from %d on are wrong at %d", at, wrong)
		}
		for what, k := range map[string]struct {
			Pattern
			at int64
		}{"a byte is lost": {key, at + 1}, "eight are lost": {key, at + 8}, "another stream": {key + 1, at}} {
			if k.Wrong(part, k.at) == -1 {
				t.Errorf("from %d on: not noticed that %s", at, what)
			}
		}
	}
	whole[9_000]++
	if wrong := key.Wrong(whole, 0); wrong != 9_000 {
		t.Errorf("a changed byte at 9000 shows at %d", wrong)
	}
}
