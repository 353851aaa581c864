package main

import (
	"time"

	"github.com/farportio/farport/hubclient"
)

// printDevice prints one identity, with all that there is to it.
func (a *app) printDevice(o deviceOptions, d hubclient.Identity) error {
	if !o.showKeys {
		d = withoutKeys(d)
	}
	return a.term.result(o.outputOptions, d, func() error {
		columns := identityColumns([]hubclient.Identity{d}, o.showKeys)
		if hasThumbprint(d) {
			columns = append(columns, column{"PRIMARY THUMBPRINT", primaryThumbprint}, column{"SECONDARY THUMBPRINT", secondaryThumbprint})
		}
		return a.tableOf(columns, []hubclient.Identity{d})
	})
}

func (a *app) printDevices(o deviceOptions, devices []hubclient.Identity) error {
	shown := make([]hubclient.Identity, len(devices)) // never null in JSON
	for i, d := range devices {
		if !o.showKeys {
			d = withoutKeys(d)
		}
		shown[i] = d
	}
	return a.term.result(o.outputOptions, shown, func() error {
		return a.tableOf(identityColumns(shown, o.showKeys), shown)
	})
}

// column is one of a table of identities.
type column struct {
	name string
	of   func(hubclient.Identity) string
}

// identityColumns are those of every table of identities. How they sign in is shown
// where it is not with keys for all.
func identityColumns(devices []hubclient.Identity, keys bool) []column {
	columns := []column{
		{"DEVICE", hubclient.Identity.Name},
		{"STATUS", statusOf},
		{"STATE", connectionOf},
		{"LAST SEEN", seen},
	}
	certificates := 0
	for _, d := range devices {
		if hasCertificate(d) {
			certificates++
		}
	}
	if certificates > 0 {
		columns = append(columns, column{"SIGNS IN WITH", kindOf})
	}
	if keys && (certificates < len(devices) || certificates == 0) {
		columns = append(columns, column{"PRIMARY KEY", primaryKey}, column{"SECONDARY KEY", secondaryKey})
	}
	return columns
}

func (a *app) tableOf(columns []column, devices []hubclient.Identity) error {
	var header []string
	rows := make([][]string, len(devices))
	for _, c := range columns {
		header = append(header, c.name)
		for i, d := range devices {
			rows[i] = append(rows[i], c.of(d))
		}
	}
	return a.term.table(header, rows)
}

// statusOf is a device's status; a module has none.
func statusOf(d hubclient.Identity) string {
	if d.ModuleID != "" {
		return "-"
	}
	return string(d.Status)
}

func connectionOf(d hubclient.Identity) string {
	if d.ConnectionState == hubclient.Connected {
		return "connected"
	}
	return "offline"
}

func seen(d hubclient.Identity) string {
	if d.ConnectionState == hubclient.Connected {
		return "now"
	}
	return formatAgo(d.LastActivityTime.Time, time.Now())
}

// withoutKeys is d as it may be printed.
func withoutKeys(d hubclient.Identity) hubclient.Identity {
	if d.Authentication != nil {
		authentication := *d.Authentication
		authentication.SymmetricKey.PrimaryKey = ""
		authentication.SymmetricKey.SecondaryKey = ""
		d.Authentication = &authentication
	}
	return d
}
