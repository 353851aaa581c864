//go:build darwin || windows

package sysservice

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kardianos/service"
)

// stayWait is how long a service that was started has to stay to count as running: these
// managers are not told when the hub has accepted the device.
const stayWait = 5 * time.Second

// Manager is launchd, or Windows'.
type Manager struct{}

// New is this machine's service manager.
func New() *Manager { return &Manager{} }

// nothing is for where a service is managed and not run.
type nothing struct{}

func (nothing) Start(service.Service) error { return nil }
func (nothing) Stop(service.Service) error  { return nil }

func open(s Spec) (service.Service, error) {
	option, err := options(s)
	if err != nil {
		return nil, err
	}
	return service.New(nothing{}, &service.Config{
		Name:        Name,
		DisplayName: Name,
		Description: description,
		Executable:  s.Executable,
		Arguments:   allArguments(s),
		UserName:    user,
		Option:      option,
	})
}

// allArguments are those of the program.
func allArguments(s Spec) []string {
	args := []string{command}
	for _, f := range s.secrets() {
		if f.text != "" {
			args = append(args, "--"+f.flag+"="+secretPath(f.name))
		}
	}
	for _, f := range s.Files {
		args = append(args, "--"+f.Flag+"="+f.Path)
	}
	return append(args, s.Arguments...)
}

// Install makes or replaces the service, starts it, and looks whether it stays for 5 s. A
// first installation that fails leaves nothing. One that replaces another on macOS goes
// back to it; on Windows the old one is gone.
func (m *Manager) Install(ctx context.Context, s Spec) (Status, error) {
	if !isRoot() {
		return Status{}, ErrNotRoot
	}
	svc, err := open(s)
	if err != nil {
		return Status{}, err
	}
	secrets := s.secrets()
	var before []secret
	for _, f := range secrets {
		file, err := save(secretPath(f.name), 0o600)
		if err != nil {
			return Status{}, err
		}
		before = append(before, secret{f.flag, f.name, string(file.data)})
	}
	back, err := saveDefinition()
	if err != nil {
		return Status{}, err
	}
	status, err := m.put(ctx, svc, secrets)
	if err == nil {
		return status, nil
	}
	_ = svc.Uninstall() // not there if it is what failed
	if back == nil {
		return Status{}, errors.Join(err, removeSecrets())
	}
	return Status{}, errors.Join(err, putSecrets(before), back(), svc.Start())
}

// putSecrets writes those that have a text, and removes the others.
func putSecrets(secrets []secret) error {
	for _, f := range secrets {
		write := func(path string, _ []byte) error { return remove(path) }
		if f.text != "" {
			write = writeSecret
		}
		if err := write(secretPath(f.name), []byte(f.text)); err != nil {
			return err
		}
	}
	return nil
}

func (m *Manager) put(ctx context.Context, svc service.Service, secrets []secret) (Status, error) {
	if err := takeAway(svc); err != nil {
		return Status{}, err
	}
	if err := makeSecretDir(); err != nil {
		return Status{}, err
	}
	if err := putSecrets(secrets); err != nil {
		return Status{}, err
	}
	if err := svc.Install(); err != nil {
		return Status{}, err
	}
	if err := svc.Start(); err != nil {
		return Status{}, fmt.Errorf("start the service: %w", err)
	}
	select {
	case <-ctx.Done():
		return Status{}, ctx.Err()
	case <-time.After(stayWait):
	}
	status, err := m.Status(ctx)
	if err == nil && status.State != Running {
		err = errors.New("the service does not stay: it ended by itself")
	}
	return status, err
}

// takeAway stops and removes the service if there is one.
func takeAway(svc service.Service) error {
	switch state, err := svc.Status(); {
	case errors.Is(err, service.ErrNotInstalled):
		return nil
	case state == service.StatusRunning:
		if err := svc.Stop(); err != nil {
			return fmt.Errorf("stop the service: %w", err)
		}
	}
	if err := svc.Uninstall(); err != nil {
		return fmt.Errorf("remove the service: %w", err)
	}
	return nil
}

// Uninstall stops and removes the service and its secrets. It reports whether there was
// one.
func (m *Manager) Uninstall(ctx context.Context) (bool, error) {
	if !isRoot() {
		return false, ErrNotRoot
	}
	status, err := m.Status(ctx)
	if err != nil {
		return false, err
	}
	svc, err := open(Spec{})
	if err != nil {
		return false, err
	}
	return status.State != NotInstalled, errors.Join(takeAway(svc), removeSecrets())
}

func removeSecrets() (err error) {
	for _, f := range (Spec{}).secrets() {
		err = errors.Join(err, remove(secretPath(f.name)))
	}
	return err
}

// Status asks the system for the service.
func (m *Manager) Status(context.Context) (Status, error) {
	svc, err := open(Spec{})
	if err != nil {
		return Status{}, err
	}
	switch state, err := svc.Status(); {
	case errors.Is(err, service.ErrNotInstalled):
		return Status{State: NotInstalled}, nil
	case err != nil:
		return Status{}, err
	case state == service.StatusRunning:
		return Status{State: Running}, nil
	}
	return Status{State: Stopped}, nil
}
