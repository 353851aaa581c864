//go:build !linux && !darwin && !windows

package sysservice

import "context"

// Manager is a system's without a service manager that we know: everything fails with
// ErrNoManager.
type Manager struct{}

// New is this machine's service manager.
func New() *Manager { return &Manager{} }

// Definition is the text of the service's definition.
func Definition(Spec) (string, error) { return "", ErrNoManager }

// Install makes or replaces the service.
func (*Manager) Install(context.Context, Spec) (Status, error) { return Status{}, ErrNoManager }

// Uninstall removes the service.
func (*Manager) Uninstall(context.Context) (bool, error) { return false, ErrNoManager }

// Status tells how the service is.
func (*Manager) Status(context.Context) (Status, error) { return Status{}, ErrNoManager }
