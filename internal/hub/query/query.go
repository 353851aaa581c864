// Package query reads the part of IoT Hub's query language that lists devices:
//
//	SELECT * FROM devices [WHERE condition]
//
// A condition compares deviceId, status or connectionState, also as devices.deviceId
// and so on, with =, != or <>, or IN [ 'a', 'b' ], and joins comparisons by NOT, AND
// and OR, in that order of strength, and parentheses. Keywords may be in either case;
// fields and values are compared exactly. Strings stand in '...' or "..." with the
// escapes \' \" \\ and \uXXXX; a doubled quote is none. All of that is as Azure
// documents it; what else Azure knows is refused.
package query

import (
	"slices"

	"github.com/farportio/farport/internal/wire"
)

// Bounds of a query.
const (
	maxText  = 4096 // bytes
	maxDepth = 32   // NOTs and parentheses within one another
)

// Query says which devices are wanted. Use Parse to make one; a Query does not change
// and may be used by many at once.
type Query struct {
	where condition // nil for all devices
}

// Match reports whether the query wants a device.
func (q *Query) Match(d wire.Device) bool { return q.where == nil || q.where.match(d) }

// condition is one of the types below.
type condition interface{ match(d wire.Device) bool }

// among holds for a device whose field has one of the values.
type among struct {
	field  string // of fields
	values []string
}

// negation, conjunction and disjunction are NOT, AND and OR.
type (
	negation    struct{ of condition }
	conjunction []condition
	disjunction []condition
)

// fields are those of a device that can be compared.
var fields = map[string]func(wire.Device) string{
	"deviceId":        func(d wire.Device) string { return d.DeviceID },
	"status":          func(d wire.Device) string { return string(d.Status) },
	"connectionState": func(d wire.Device) string { return string(d.ConnectionState) },
}

func (c among) match(d wire.Device) bool { return slices.Contains(c.values, fields[c.field](d)) }

func (c negation) match(d wire.Device) bool { return !c.of.match(d) }

func (c conjunction) match(d wire.Device) bool {
	return !slices.ContainsFunc(c, func(part condition) bool { return !part.match(d) })
}

func (c disjunction) match(d wire.Device) bool {
	return slices.ContainsFunc(c, func(part condition) bool { return part.match(d) })
}
