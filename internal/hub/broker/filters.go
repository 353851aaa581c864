package broker

import (
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/farportio/farport/internal/wire"
)

// filters is a set of topic filters. It has room for all that anybody may subscribe
// to, so a set of subscriptions is bounded by its type.
type filters uint16

// The filters there are. Source: docs/protocol.md, What the hub must put up with.
const (
	streamRequests filters = 1 << iota
	streamResponses
	methodRequests
	twinAnswers
	twinChanges
	devicebound
	moduleAll
	moduleInputs
)

// announced are the filters whose subscription Options.Ready tells.
const announced = streamRequests | methodRequests | twinChanges

// permitted is the set of the one filter if the device or module of that name may
// subscribe to it, or the empty set.
func permitted(name, filter string) filters {
	switch filter {
	case wire.FilterStreamRequests:
		return streamRequests
	case wire.FilterStreamResponses:
		return streamResponses
	case wire.FilterMethods:
		return methodRequests
	case wire.FilterTwinAnswers:
		return twinAnswers
	case wire.FilterTwinChanges:
		return twinChanges
	}
	if strings.ContainsAny(name, "+#") {
		return 0 // such an ID would be a wildcard inside a filter
	}
	device, module := wire.SplitTarget(name)
	if module == "" {
		if filter == wire.FilterDevicebound(device) {
			return devicebound
		}
		return 0
	}
	switch filter {
	case wire.FilterModule(device, module):
		return moduleAll
	case wire.FilterInputs(device, module):
		return moduleInputs
	case wire.FilterModulebound(device, module):
		return devicebound
	}
	return 0
}

// spellOut replaces a "+" that stands for the device itself by its ID.
func spellOut(name string, wanted packets.Subscriptions) {
	device, module := wire.SplitTarget(name)
	if module != "" {
		return
	}
	for i := range wanted {
		if wanted[i].Filter == wire.FilterOwnDevicebound {
			wanted[i].Filter = wire.FilterDevicebound(device)
		}
	}
}
