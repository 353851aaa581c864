// Package skip ends tests that a machine cannot run. Only tests import it.
package skip

import (
	"os"
	"testing"
)

// Test skips t and says why, or fails it where FARPORT_TEST_REQUIRE is "all", as it
// is in .ci/run, which installs whatever a test needs.
func Test(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("FARPORT_TEST_REQUIRE") == "all" {
		t.Fatal(why)
	}
	t.Skip(why)
}
