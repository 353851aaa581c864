package wire

import (
	"bytes"
	"strings"
	"testing"
)

// most is the largest offset, in digits.
const most = "9007199254740991"

func TestControl(t *testing.T) {
	for text, want := range map[string]Control{
		"H 1 0 65536 00000000":                              {Verb: VerbHello, Join: 1, Limit: 65536},
		"H 3 10 20 00c0ffee":                                {Verb: VerbHello, Join: 3, Recv: 10, Limit: 20, Check: 0xc0ffee},
		"H " + most + " " + most + " " + most + " ffffffff": {Verb: VerbHello, Join: MaxOffset, Recv: MaxOffset, Limit: MaxOffset, Check: 0xffffffff},
		"A 0 0":       {Verb: VerbAck},
		"A 7 " + most: {Verb: VerbAck, Recv: 7, Limit: MaxOffset},
		"E 0":         {Verb: VerbEOF},
		"E " + most:   {Verb: VerbEOF, Final: MaxOffset},
		"X reset":     {Verb: VerbAbort, Reason: EndReset},
		"F":           {Verb: VerbDone},
	} {
		got, err := ParseControl([]byte(text))
		if err != nil || got != want {
			t.Errorf("%q is %+v, %v", text, got, err)
		}
		if again := want.Append(nil); string(again) != text || len(again) > MaxControl {
			t.Errorf("%+v is written %q", want, again)
		}
	}
	if got := (Control{Verb: VerbDone}).Append([]byte("x")); string(got) != "xF" {
		t.Errorf("appended to x: %q", got)
	}
	// Read, but never written so.
	for text, want := range map[string]Control{
		"X something-new-is":              {Verb: VerbAbort, Reason: EndReset},
		"X a":                             {Verb: VerbAbort, Reason: EndReset},
		"z":                               {},
		"q 1 2 three":                     {},
		"hello":                           {},
		"p" + strings.Repeat("~", 127):    {},
		"a  two spaces, of a later verb ": {},
	} {
		if got, err := ParseControl([]byte(text)); err != nil || got != want {
			t.Errorf("%q is %+v, %v", text, got, err)
		}
	}
}

func TestNoControl(t *testing.T) {
	for _, text := range []string{
		"", " ", "H", "A", "E", "X", "Q", "0", "~", "{", "`", "\x00", "é",
		" F", "F ", "FF", "F 1", "F\n", "\nF", "F\x00", "AA 1 2", "Hello",
		"A 1", "A 1 2 3", "A 1  2", "A  1 2", "A 1 2 ", "A 1\t2", "A 1,2",
		"A 01 2", "A 00 2", "A +1 2", "A -1 2", "A 1e3 2", "A 0x1 2", "A 1_0 2", "A １ 2", "A  ",
		"A 9007199254740992 0", "A 0 18446744073709551616", "A 0 99999999999999999999999",
		"E", "E ", "E 1 2", "E 1.", "E 9007199254740992",
		"H 1 2 3", "H 1 2 00000000", "H 1 2 3 4 00000000", "H 1 2 3 0000000", "H 1 2 3 000000000",
		"H 1 2 3 DEADBEEF", "H 1 2 3 +0000001", "H 1 2 3 0x000001", "H 1 2 3 0_000001", "H 1 2 3 0000000g", "H 1 2 3 ",
		"X ", "X  reset", "X reset ", "X reset now", "X Reset", "X re5et", "X reset\n", "X " + strings.Repeat("a", 17),
		"z\n", "z\x7f", "z" + strings.Repeat("z", MaxControl),
	} {
		if got, err := ParseControl([]byte(text)); err != ErrControl || got != (Control{}) {
			t.Errorf("%q is %+v, %v", text, got, err)
		}
	}
}

// endings are all the words that an extended stream can end with.
var endings = []EndReason{
	EndFinished, EndReset, EndRefused, EndLost, EndProtocol, EndOverflow, EndShutdown,
	EndInstance, EndRevoked, EndClosed, EndExpired, EndIdle,
}

func TestParseReason(t *testing.T) {
	for _, r := range endings {
		if got := ParseReason(string(r)); got != r {
			t.Errorf("%q became %q", r, got)
		}
		if !validReason([]byte(r)) {
			t.Errorf("%q is no word that the grammar has", r)
		}
		if got, err := ParseControl(Control{Verb: VerbAbort, Reason: r}.Append(nil)); err != nil || got.Reason != r {
			t.Errorf("%q became %+v, %v", r, got, err)
		}
	}
	// The words of plain streams, some of which the grammar does not even have, are none.
	for _, r := range []EndReason{EndDevice, EndService, EndAborted, EndNetwork, EndRejected, EndOffline, EndStopping, "", "Reset", "lost\n", "new"} {
		if got := ParseReason(string(r)); got != EndReset {
			t.Errorf("%q became %q", r, got)
		}
		if got := (Control{Verb: VerbAbort, Reason: r}).Append(nil); string(got) != "X reset" {
			t.Errorf("%q is written %q", r, got)
		}
	}
}

func TestParseJoin(t *testing.T) {
	for text, want := range map[string]uint64{
		"1": 1, "42": 42, most: MaxOffset,
		"": 0, "0": 0, "01": 0, "+1": 0, "-1": 0, " 1": 0, "1 ": 0, "1,2": 0, "1.0": 0, "9007199254740992": 0, "18446744073709551617": 0,
	} {
		got, ok := ParseJoin(text)
		if got != want || ok != (want > 0) {
			t.Errorf("%q is %d, %v", text, got, ok)
		}
		if ok && FormatJoin(got) != text {
			t.Errorf("%d is written %q", got, FormatJoin(got))
		}
	}
}

func TestInstance(t *testing.T) {
	// By hand: printf 'farport instance 1\0AAAAAAAAAAAAAAAAAAAAAA' | sha256sum
	const secret, id = "AAAAAAAAAAAAAAAAAAAAAA", "R-CFK-I5lsX17IfEpIYX5A"
	if got := InstanceID(secret); got != id {
		t.Errorf("ID of %s is %s", secret, got)
	}
	first, second := NewInstance(), NewInstance()
	if first == second || len(first) != 22 || !ValidInstance(first) {
		t.Errorf("secrets %q and %q", first, second)
	}
	if InstanceID(first) == InstanceID(second) || !ValidInstance(InstanceID(first)) {
		t.Errorf("IDs %q and %q", InstanceID(first), InstanceID(second))
	}
	for _, text := range []string{
		"", id[:21], id + "A", id + "==", id[:20] + "\r\n" + id[20:], "\n" + id, id + "\n", id[:21] + "=",
		id[:21] + "x", // bits that no byte has
		strings.Replace(id, "-", "+", 1), strings.Replace(id, "-", " ", 1), strings.Repeat("é", 11),
	} {
		if ValidInstance(text) {
			t.Errorf("%q is valid", text)
		}
	}
}

// What is taken is written back the same, except for words that are not known.
func FuzzControl(f *testing.F) {
	for _, text := range []string{"H 3 10 20 00c0ffee", "A 7 9007199254740991", "E 0", "X reset", "X new-word", "F", "later 1 2", "A 01 2", "H 1 2 3 DEADBEEF", "F\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseControl(text)
		if err != nil {
			if err != ErrControl || c != (Control{}) {
				t.Errorf("%q is %+v, %v", text, c, err)
			}
			return
		}
		if len(text) > MaxControl || max(c.Join, c.Recv, c.Limit, c.Final) > MaxOffset {
			t.Errorf("%q is %+v", text, c)
		}
		if c.Verb == VerbUnknown {
			if c != (Control{}) || text[0] < 'a' || text[0] > 'z' {
				t.Errorf("%q is %+v", text, c)
			}
			return
		}
		written := c.Append(nil)
		if !bytes.Equal(written, text) && (c.Verb != VerbAbort || c.Reason != EndReset) {
			t.Errorf("%q is written %q", text, written)
		}
		if again, err := ParseControl(written); err != nil || again != c {
			t.Errorf("%+v became %+v, %v", c, again, err)
		}
	})
}

func FuzzParseJoin(f *testing.F) {
	for _, text := range []string{"1", "0", "01", most, "9007199254740992", "-1", "1\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		join, ok := ParseJoin(text)
		if ok != (join >= 1) || join > MaxOffset || ok && FormatJoin(join) != text {
			t.Errorf("%q is %d, %v", text, join, ok)
		}
	})
}

func FuzzInstance(f *testing.F) {
	for _, text := range []string{"AAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAB", "AAAA\nAAAAAAAAAAAAAAAAAA", "", "=="} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if ValidInstance(text) && !ValidStreamName(strings.ReplaceAll(text, "/", "!")) {
			t.Errorf("%q would have to be escaped", text)
		}
		if !ValidInstance(InstanceID(text)) {
			t.Errorf("ID of %q is %q", text, InstanceID(text))
		}
	})
}
