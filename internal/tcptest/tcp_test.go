//go:build unix

package tcptest

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what was seen into docs/tcp.md")

// seen is what client and target saw of one row.
type seen struct{ client, target string }

func (s seen) String() string { return strings.TrimSuffix(s.client+". "+s.target, ". ") }

// differs are the rows in which a stream cannot be the same as a direct connection, with
// what it is to be (farport-v1.md section 10).
var differs = map[string]struct{ direct, through seen }{
	refusedDial: {seen{client: "client refused"}, seen{client: "client reset"}},
}

// TestTCP plays every row directly and through farport.
func TestTCP(t *testing.T) {
	table := rows()
	var names []string
	for _, r := range table {
		names = append(names, r.name)
	}
	roads := through(t, names)
	results := make([][2]seen, len(table))
	t.Run("rows", func(t *testing.T) {
		for i, r := range table {
			t.Run(r.name, func(t *testing.T) {
				t.Parallel()
				results[i] = r.compare(t, roads[r.name])
			})
		}
	})
	checkDocs(t, table, results)
}

// late is how much longer a row may take through farport, besides the time that a busy
// machine takes. A plain stream needs more wherever one end goes on after the other's FIN.
const late = 4 * time.Second

// compare plays a row both ways.
func (r row) compare(t *testing.T, far road) (result [2]seen) {
	var took [2]time.Duration
	for i, way := range []struct {
		name string
		road road
	}{{"direct", direct(t)}, {"through", far}} {
		t.Run(way.name, func(t *testing.T) { result[i], took[i] = r.playOn(t, way.road) })
	}
	want := result[0]
	if d, ok := differs[r.name]; ok {
		want = d.through
		if result[0] != d.direct {
			t.Errorf("direct: %v, want %v", result[0], d.direct)
		}
	}
	if result[1] != want {
		t.Errorf("not the same:\nfarport: %v\n   want: %v", result[1], want)
	}
	// A busy machine may be late, but hardly three times.
	for again := 0; took[1]-took[0] > late+3*took[0]; again++ {
		if again == 2 {
			t.Errorf("%v longer than a direct connection, the third time", took[1]-took[0])
			break
		}
		_, took[1] = r.playOn(t, far)
	}
	return result
}

// playOn plays a row and returns what was seen, and how long the longest play took.
func (r row) playOn(t *testing.T, on road) (first seen, longest time.Duration) {
	if r.play == nil {
		address := on.address
		if on.target != nil {
			address = nowhere
		}
		return seen{client: refused(t, address)}, 0
	}
	for n := range max(r.again, 1) {
		near, far := on.connect(t)
		client := newPeer(t, "client", near, 1, 2)
		target := newPeer(t, "target", far, 2, 1)
		began := time.Now()
		r.play(client, target)
		longest = max(longest, time.Since(began))
		_, _ = near.Close(), far.Close()
		now := seen{client.String(), target.String()}
		if n == 0 {
			first = now
		} else if now != first {
			t.Errorf("played again, it is another thing:\n first: %v\n%6d: %v", first, n+1, now)
		}
	}
	return first, longest
}

// docs is where the table is written to, between two marks.
const (
	docs  = "../../docs/tcp.md"
	begin = "<!-- table: go test ./internal/tcptest -update -->\n"
	end   = "<!-- end of table -->\n"
)

// checkDocs holds docs/tcp.md against what was seen. Of rows that were not played, by
// -run, nothing is asked.
func checkDocs(t *testing.T, table []row, results [][2]seen) {
	t.Helper()
	text, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has lost its marks", docs)
	}
	now := "| what happens | both ends see, directly as through farport |\n| --- | --- |\n"
	all := true
	for i, r := range table {
		if results[i] == [2]seen{} {
			all = false
			continue
		}
		line := r.line(results[i])
		if now += line; !strings.Contains(old, line) && !*update {
			t.Errorf("%s is not what was seen (go test ./internal/tcptest -update):\n%s", docs, line)
		}
	}
	switch {
	case !all || old == now:
	case !*update:
		t.Errorf("%s has other rows: go test ./internal/tcptest -update", docs)
	case !t.Failed():
		if err := os.WriteFile(docs, []byte(before+begin+now+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// line is a row of the table in docs/tcp.md.
func (r row) line(result [2]seen) string {
	what := result[1].String()
	if _, ok := differs[r.name]; ok {
		what = fmt.Sprintf("directly: %v; through farport: %v", result[0], result[1])
	}
	return fmt.Sprintf("| %s | %s |\n", r.text, what)
}
