package query

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/farportio/farport/internal/wire"
)

// fleet is what the queries of the tests are asked about.
var fleet = []wire.Device{
	{DeviceID: "pi-1", Status: wire.StatusEnabled, ConnectionState: wire.Connected},
	{DeviceID: "pi-2", Status: wire.StatusEnabled, ConnectionState: wire.Disconnected},
	{DeviceID: "it's", Status: wire.StatusDisabled, ConnectionState: wire.Disconnected},
	{DeviceID: "PI-1", Status: wire.StatusDisabled, ConnectionState: wire.Connected},
}

// matches lists the devices that a query wants.
func matches(q *Query) string {
	var ids []string
	for _, d := range fleet {
		if q.Match(d) {
			ids = append(ids, d.DeviceID)
		}
	}
	return strings.Join(ids, " ")
}

func TestMatch(t *testing.T) {
	t.Parallel()
	const all = "pi-1 pi-2 it's PI-1"
	for where, want := range map[string]string{
		`deviceId = 'pi-1'`:                                "pi-1",
		`deviceId='pi-1'`:                                  "pi-1",
		`devices.deviceId = "pi-1"`:                        "pi-1",
		`deviceId = 'it\'s'`:                               "it's",
		`deviceId = "it's"`:                                "it's",
		`deviceId = "it\'s"`:                               "it's",
		`deviceId = 'it\u0027s'`:                           "it's",
		`deviceId = 'pi\\1'`:                               "",
		`deviceId = ''`:                                    "",
		`deviceId = '\u00e4\uFFFD'`:                        "",
		`deviceId = 'AND'`:                                 "",
		`deviceId <> 'pi-1'`:                               "pi-2 it's PI-1",
		`deviceId != 'pi-1'`:                               "pi-2 it's PI-1",
		`status = 'enabled'`:                               "pi-1 pi-2",
		`status = 'Enabled'`:                               "",
		`connectionState = 'Connected'`:                    "pi-1 PI-1",
		`devices.connectionState = 'Disconnected'`:         "pi-2 it's",
		`deviceId IN ['pi-1', "pi-2"]`:                     "pi-1 pi-2",
		`deviceId in['pi-1']`:                              "pi-1",
		`NOT deviceId IN ['pi-1','pi-2','x']`:              "it's PI-1",
		`status='enabled' AND connectionState='Connected'`: "pi-1",
		`status='enabled' and not connectionState<>'X'`:    "",
		`status='disabled' OR deviceId='pi-2'`:             "pi-2 it's PI-1",
		`deviceId='pi-2' OR status='disabled' AND connectionState='Connected'`:              "pi-2 PI-1", // AND binds closer
		`(deviceId='pi-2' OR status='disabled') AND connectionState='Connected'`:            "PI-1",
		`NOT status='enabled' AND connectionState='Connected'`:                              "PI-1", // NOT closest
		`NOT (status='enabled' AND connectionState='Connected')`:                            "pi-2 it's PI-1",
		`not not status='enabled'`:                                                          "pi-1 pi-2",
		`NOT(NOT(status='enabled'))`:                                                        "pi-1 pi-2",
		"deviceId\n=\t'pi-1'\r\n":                                                           "pi-1",
		`((((deviceId = 'pi-1'))))`:                                                         "pi-1",
		strings.Repeat("(", maxDepth) + `deviceId = 'pi-1'` + strings.Repeat(")", maxDepth): "pi-1",
		strings.Repeat("NOT ", maxDepth) + `deviceId = 'pi-1'`:                              "pi-1",
		`deviceId='pi-1'` + strings.Repeat(` OR deviceId='pi-1'`, 200):                      "pi-1", // wide is not deep
		strings.Repeat(`(deviceId<>'') AND `, 100) + `(status='enabled')`:                   "pi-1 pi-2",
	} {
		q, err := Parse("SELECT * FROM devices WHERE " + where)
		if err != nil {
			t.Errorf("%s: %v", where, err)
			continue
		}
		if got := matches(q); got != want {
			t.Errorf("%s: %q, want %q", where, got, want)
		}
	}
	for _, text := range []string{"SELECT * FROM devices", "select*from DEVICES", "\n Select\t* From devices \r\n"} {
		if q, err := Parse(text); err != nil || matches(q) != all {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestZeroDevice checks that what is compared with nothing is not everything.
func TestZeroDevice(t *testing.T) {
	t.Parallel()
	q, err := Parse("SELECT * FROM devices WHERE status = 'enabled'")
	if err != nil || q.Match(wire.Device{}) {
		t.Errorf("no device is enabled, or %v", err)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                 `query: the end at character 1 is not understood here: want SELECT, as in SELECT * FROM devices`,
		"DELETE FROM devices":              `query: "DELETE" at character 1 is not understood here: want SELECT, as in SELECT * FROM devices`,
		"SELECT deviceId FROM devices":     `query: "deviceId" at character 8 is not understood here: want *, as in SELECT * FROM devices`,
		"SELECT COUNT() AS n FROM devices": `query: "COUNT" at character 8 is not understood here: want *, as in SELECT * FROM devices`,
		"SELECT TOP 5 * FROM devices":      `query: "TOP" at character 8 is not understood here: want *, as in SELECT * FROM devices`,
		"SELECT *, tags FROM devices":      `query: "," at character 9 is not understood here: want FROM, as in SELECT * FROM devices`,
		"SELECT *":                         `query: the end at character 9 is not understood here: want FROM, as in SELECT * FROM devices`,
		"SELECT * FROM devices.modules":    `query: "devices.modules" at character 15 is not understood here: want devices, as in SELECT * FROM devices`,
		"SELECT * FROM 'devices'":          `query: string "devices" at character 15 is not understood here: want devices, as in SELECT * FROM devices`,
		"SELECT * FROM devices.jobs":       `query: "devices.jobs" at character 15 is not understood here: want devices, as in SELECT * FROM devices`,
		"SELECT * FROM devices d":          `query: "d" at character 23 is not understood here: want WHERE or the end`,
		"SELECT * FROM devices;":           `query: ";" at character 22 is not understood here: want WHERE or the end`,
		"SELECT * FROM devices ORDER BY x": `query: "ORDER" at character 23 is not understood here: want WHERE or the end`,
	} {
		wantError(t, text, want)
	}
	const field, operator = "deviceId, status or connectionState", "=, !=, <> or IN"
	for where, want := range map[string]string{
		"":                                       "the end at character 29 is not understood here: want " + field,
		"tags.room = 'x'":                        `"tags.room" at character 29 is not understood here: want ` + field,
		"properties.reported.$version = 1":       `"properties.reported.$version" at character 29 is not understood here: want ` + field,
		"DeviceId = 'x'":                         `"DeviceId" at character 29 is not understood here: want ` + field,
		"Devices.deviceId = 'x'":                 `"Devices.deviceId" at character 29 is not understood here: want ` + field,
		"devices.devices.deviceId = 'x'":         `"devices.devices.deviceId" at character 29 is not understood here: want ` + field,
		"moduleId = 'x'":                         `"moduleId" at character 29 is not understood here: want ` + field,
		"'pi-1' = deviceId":                      `string "pi-1" at character 29 is not understood here: want ` + field,
		"'status' = 'x'":                         `string "status" at character 29 is not understood here: want ` + field,
		"IS_DEFINED(tags)":                       `"IS_DEFINED" at character 29 is not understood here: want ` + field,
		"()":                                     `")" at character 30 is not understood here: want ` + field,
		"AND":                                    `"AND" at character 29 is not understood here: want ` + field,
		"NOT":                                    `the end at character 32 is not understood here: want ` + field,
		"status = 'x' AND":                       `the end at character 45 is not understood here: want ` + field,
		"deviceId":                               `the end at character 37 is not understood here: want ` + operator,
		"deviceId > 'a'":                         `">" at character 38 is not understood here: want ` + operator,
		"deviceId >= 'a'":                        `">=" at character 38 is not understood here: want ` + operator,
		"deviceId LIKE 'a%'":                     `"LIKE" at character 38 is not understood here: want ` + operator,
		"deviceId NOT IN ['a']":                  `"NOT" at character 38 is not understood here: want ` + operator,
		"deviceId = 5":                           `"5" at character 40 is not understood here: want a string in quotes`,
		"deviceId = -5":                          `"-" at character 40 is not understood here: want a string in quotes`,
		"deviceId = null":                        `"null" at character 40 is not understood here: want a string in quotes`,
		"deviceId == 'a'":                        `"=" at character 39 is not understood here: want a string in quotes`,
		"deviceId IN ('a')":                      `"(" at character 41 is not understood here: want [`,
		"deviceId IN []":                         `"]" at character 42 is not understood here: want a string in quotes`,
		"deviceId IN ['a',]":                     `"]" at character 46 is not understood here: want a string in quotes`,
		"deviceId IN ['a' 'b']":                  `string "b" at character 46 is not understood here: want a comma or ]`,
		"deviceId IN ['a'":                       `the end at character 45 is not understood here: want a comma or ]`,
		"(status = 'x'":                          `the end at character 42 is not understood here: want AND, OR or )`,
		"status = 'x')":                          `")" at character 41 is not understood here: want AND, OR or the end`,
		"status = 'x' status = 'y'":              `"status" at character 42 is not understood here: want AND, OR or the end`,
		"status = 'x' GROUP BY status":           `"GROUP" at character 42 is not understood here: want AND, OR or the end`,
		"status = 'it''s'":                       `string "s" at character 42 is not understood here: want AND, OR or the end`,
		"status = 'x":                            "the string at character 38 has no end",
		`status = 'x\'`:                          "the string at character 38 has no end",
		`status = 'ä' AND status = "x'`:          "the string at character 55 has no end",
		`status = '\n'`:                          `the string at character 38 has an escape that is none of \' \" \\ \uXXXX`,
		`status = '\u12G4'`:                      `the string at character 38 has an escape that is none of \' \" \\ \uXXXX`,
		`status = '\u12`:                         `the string at character 38 has an escape that is none of \' \" \\ \uXXXX`,
		`status = '\uD83D\uDE00'`:                `the string at character 38 has an escape that is none of \' \" \\ \uXXXX`,
		`status = '\`:                            `the string at character 38 has an escape that is none of \' \" \\ \uXXXX`,
		"status\x00= 'x'":                        `"\x00" at character 35 is not understood here: want ` + operator,
		"status ＝ 'x'":                           `"＝" at character 36 is not understood here: want ` + operator,
		"status = " + strings.Repeat("9", 100):   `"` + strings.Repeat("9", maxQuoted) + `..." at character 38 is not understood here: want a string in quotes`,
		strings.Repeat("(", maxDepth+1):          fmt.Sprintf(`"(" at character %d is nested more than 32 deep`, 29+maxDepth),
		strings.Repeat("NOT ", 1000):             fmt.Sprintf(`"NOT" at character %d is nested more than 32 deep`, 29+4*maxDepth),
		strings.Repeat("(NOT ", 1000)[:4000]:     fmt.Sprintf(`"(" at character %d is nested more than 32 deep`, 29+5*maxDepth/2),
		strings.Repeat("(status='x')OR", 3) + "": `the end at character 71 is not understood here: want ` + field,
	} {
		wantError(t, "SELECT * FROM devices WHERE "+where, "query: "+want)
	}
	wantError(t, strings.Repeat(" ", maxText+1), "query has 4097 bytes, more than 4096")
	wantError(t, "SELECT * FROM devices WHERE status = '\xff'", "query is not UTF-8")
}

func wantError(t *testing.T, text, want string) {
	t.Helper()
	if q, err := Parse(text); err == nil || q != nil || err.Error() != want {
		t.Errorf("%q:\n got %v\nwant %s", text, err, want)
	}
}

// TestManyAtOnce uses one query from several goroutines.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	q, err := Parse("SELECT * FROM devices WHERE NOT deviceId IN ['pi-1'] AND (status='enabled' OR connectionState='Connected')")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				if got := matches(q); got != "pi-2 PI-1" {
					t.Errorf("%q", got)
				}
			}
		})
	}
	wg.Wait()
}
