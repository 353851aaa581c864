//go:build unix && !linux

package main_test

import "testing"

func networks(t *testing.T, _ string) { t.Skip(namespaces) }

func onlyOutbound443(t *testing.T, _ string) { t.Skip(namespaces) }

func onlyThroughProxy(t *testing.T, _ string) { t.Skip(namespaces) }

const namespaces = "the networks are namespaces of Linux"
