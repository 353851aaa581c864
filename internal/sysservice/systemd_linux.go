package sysservice

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	secretDir = "/etc/farport"
	unitPath  = "/etc/systemd/system/" + Name + ".service"
	booted    = "/run/systemd/system" // is there while systemd runs; source: sd_booted(3)

	// leastVersion of systemd has LoadCredential=.
	leastVersion = 247
	// startWait is for systemctl, which waits until the service says that it is ready.
	startWait = 60 * time.Second
	pollEvery = 250 * time.Millisecond
	// maxMessage bounds what is repeated of systemctl's complaint, in bytes.
	maxMessage = 300
)

// Manager is systemd.
type Manager struct {
	root      string // stands before every path; "" but in tests
	systemctl string
	isRoot    bool
	wait      time.Duration // for the hub
}

// New is this machine's service manager.
func New() *Manager {
	return &Manager{systemctl: "systemctl", isRoot: os.Geteuid() == 0, wait: connectWait}
}

// Install makes or replaces the service, starts it, and waits up to 20 s until the hub has
// accepted the device; that it has not is no error, and to be seen in the status. After
// any error all is as it was before: ErrNotRoot, ErrNoManager, ErrOutOfReach, EndedError
// when the service ended meanwhile, such as for credentials that the hub refused.
func (m *Manager) Install(ctx context.Context, s Spec) (Status, error) {
	definition, err := Definition(s)
	if err != nil {
		return Status{}, err
	}
	if err := m.check(ctx, s.Executable); err != nil {
		return Status{}, err
	}
	before, err := m.saveAll()
	if err != nil {
		return Status{}, err
	}
	status, err := m.put(ctx, definition, s.secrets())
	if err != nil {
		if undone := m.undo(context.WithoutCancel(ctx), before); undone != nil {
			err = fmt.Errorf("%w; and going back failed: %w", err, undone)
		}
		return Status{}, err
	}
	return status, nil
}

// saveAll keeps the unit, which comes first, and the secrets.
func (m *Manager) saveAll() ([]saved, error) {
	unit, err := save(m.root+unitPath, 0o644)
	if err != nil {
		return nil, err
	}
	all := []saved{unit}
	for _, path := range m.secretPaths() {
		s, err := save(path, 0o600)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// secretPaths are those of all secrets that there can be.
func (m *Manager) secretPaths() (paths []string) {
	for _, f := range (Spec{}).secrets() {
		paths = append(paths, filepath.Join(m.root+secretDir, f.name))
	}
	return paths
}

// check looks for what would make the installation fail.
func (m *Manager) check(ctx context.Context, program string) error {
	if !m.isRoot {
		return ErrNotRoot
	}
	if err := m.running(); err != nil {
		return err
	}
	out, err := m.run(ctx, "--version")
	if err != nil {
		return err
	}
	fields := strings.Fields(out) // systemd 252 (252.39-1~deb12u2)
	if len(fields) < 2 {
		return fmt.Errorf("systemctl --version: %q", out)
	}
	digits, _, _ := strings.Cut(fields[1], ".")
	if v, err := strconv.Atoi(strings.TrimRight(digits, "~rc")); err == nil && v < leastVersion {
		return fmt.Errorf("systemd %d is too old: it has to be %d or newer", v, leastVersion)
	}
	return m.reachable(program)
}

func (m *Manager) running() error {
	if info, err := os.Stat(m.root + booted); err != nil || !info.IsDir() {
		return fmt.Errorf("%w: systemd does not", ErrNoManager)
	}
	return nil
}

// reachable refuses a program that the unprivileged service could not start: the unit
// hides home folders and temporary ones.
func (m *Manager) reachable(program string) error {
	for _, hidden := range []string{"/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/"} {
		if strings.HasPrefix(program, hidden) {
			return fmt.Errorf("%s: %w: it sees nothing of %s", program, ErrOutOfReach, hidden)
		}
	}
	for path := program; ; path = filepath.Dir(path) {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("%s: %w: %s is not for everybody to open (mode %#o)", program, ErrOutOfReach, path, info.Mode().Perm())
		}
		if path == filepath.Dir(path) {
			return nil
		}
	}
}

func (m *Manager) put(ctx context.Context, definition string, secrets []secret) (Status, error) {
	for _, f := range secrets {
		s := saved{filepath.Join(m.root+secretDir, f.name), 0o600, []byte(f.text)}
		if f.text == "" {
			s.data = nil
		}
		if err := s.restore(); err != nil {
			return Status{}, err
		}
	}
	if err := (saved{m.root + unitPath, 0o644, []byte(definition)}).restore(); err != nil {
		return Status{}, err
	}
	for _, args := range [][]string{{"daemon-reload"}, {"enable", Name + ".service"}, {"restart", Name + ".service"}} {
		if _, err := m.run(ctx, args...); err != nil {
			if ended := m.ended(ctx); ended != nil {
				err = ended
			}
			return Status{}, err
		}
	}
	return m.await(ctx)
}

// undo goes back to the service that was there before, if any, and to files of its names
// that somebody else has put there.
func (m *Manager) undo(ctx context.Context, before []saved) error {
	ctx, cancel := context.WithTimeout(ctx, undoWait)
	defer cancel()
	var err error
	if before[0].data == nil {
		err = m.takeAway(ctx)
	}
	for _, s := range before {
		err = errors.Join(err, s.restore())
	}
	if before[0].data == nil {
		return err
	}
	for _, args := range [][]string{{"daemon-reload"}, {"restart", "--no-block", Name + ".service"}} {
		_, e := m.run(ctx, args...)
		err = errors.Join(err, e)
	}
	return err
}

// takeAway stops and removes whatever there is of the service.
func (m *Manager) takeAway(ctx context.Context) error {
	var errs []error
	if _, err := os.Stat(m.root + unitPath); err == nil {
		for _, args := range [][]string{{"stop", Name + ".service"}, {"disable", Name + ".service"}} {
			_, err := m.run(ctx, args...)
			errs = append(errs, err)
		}
	}
	for _, path := range append(m.secretPaths(), m.root+unitPath) {
		errs = append(errs, remove(path))
	}
	_ = os.Remove(m.root + secretDir) // unless somebody has more in it
	_, err := m.run(ctx, "daemon-reload")
	errs = append(errs, err)
	_, _ = m.run(ctx, "reset-failed", Name+".service") // it fails when nothing has
	return errors.Join(errs...)
}

// Uninstall stops and removes the service and its secrets. It reports whether there was
// anything.
func (m *Manager) Uninstall(ctx context.Context) (bool, error) {
	if !m.isRoot {
		return false, ErrNotRoot
	}
	if err := m.running(); err != nil {
		return false, err
	}
	was := slices.ContainsFunc(append(m.secretPaths(), m.root+unitPath), func(path string) bool {
		_, err := os.Stat(path)
		return !errors.Is(err, fs.ErrNotExist)
	})
	if !was {
		return false, nil
	}
	return true, m.takeAway(ctx)
}

// Status asks systemd for the service. No privilege is needed.
func (m *Manager) Status(ctx context.Context) (Status, error) {
	if err := m.running(); err != nil {
		return Status{}, err
	}
	p, err := m.show(ctx)
	if err != nil {
		return Status{}, err
	}
	return p.status(), nil
}

// properties are what systemctl show prints.
type properties map[string]string

func (m *Manager) show(ctx context.Context) (properties, error) {
	out, err := m.run(ctx, "show", Name+".service", "--property="+
		"LoadState,ActiveState,SubState,Result,StatusText,ActiveEnterTimestamp,InactiveEnterTimestamp,ExecMainCode,ExecMainStatus,NRestarts,FragmentPath")
	if err != nil {
		return nil, err
	}
	p := make(properties)
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimRight(line, "\n"), "=")
		p[name] = value
	}
	return p, nil
}

func (p properties) status() Status {
	s := Status{State: Stopped, Detail: p["StatusText"], Definition: p["FragmentPath"]}
	since := p["InactiveEnterTimestamp"]
	switch {
	case p["LoadState"] == "not-found":
		return Status{State: NotInstalled}
	case p["ActiveState"] == "active":
		s.State, since = Running, p["ActiveEnterTimestamp"]
	case p["ExecMainStatus"] != "" && p["ExecMainStatus"] != "0":
		s.Detail = strings.TrimPrefix(p["SubState"]+", ", "dead, ") + p.how()
	default:
		s.Detail = p["SubState"]
	}
	s.Since, _ = time.Parse("Mon 2006-01-02 15:04:05 MST", since) // zero: never was
	return s
}

// exited is the ExecMainCode of a process that was not killed; source: CLD_EXITED,
// wait(2).
const exited = "1"

// how says how the last process ended.
func (p properties) how() string {
	if p["ExecMainCode"] != exited {
		return "killed by signal " + p["ExecMainStatus"]
	}
	return "exit code " + p["ExecMainStatus"]
}

// ended says with what code the service ended after its start, nil if it did not.
func (p properties) ended() error {
	if p["ActiveState"] != "failed" && p["SubState"] != "auto-restart" && (p["NRestarts"] == "" || p["NRestarts"] == "0") {
		return nil
	}
	code, err := strconv.Atoi(p["ExecMainStatus"])
	if err != nil || p["ExecMainCode"] != exited {
		return fmt.Errorf("the service has failed (%s)", p["Result"])
	}
	return &EndedError{code}
}

func (m *Manager) ended(ctx context.Context) error {
	p, err := m.show(ctx)
	if err != nil {
		return nil // the caller has an error of its own
	}
	return p.ended()
}

// await waits until the hub has accepted the device, but not for ever.
func (m *Manager) await(ctx context.Context) (Status, error) {
	deadline := time.After(m.wait)
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		p, err := m.show(ctx)
		if err != nil {
			return Status{}, err
		}
		if err := p.ended(); err != nil {
			return Status{}, err
		}
		if s := p.status(); strings.HasPrefix(s.Detail, Connected) {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return Status{}, ctx.Err()
		case <-deadline:
			return p.status(), nil
		case <-ticker.C:
		}
	}
}

// run runs systemctl, in English and UTC.
func (m *Manager) run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	cmd := exec.CommandContext(ctx, m.systemctl, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0")
	cmd.WaitDelay = time.Second
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		said := strings.TrimSpace(complaint.String())
		if len(said) > maxMessage {
			said = strings.ToValidUTF8(said[:maxMessage], "") + "..."
		}
		if said != "" {
			return "", fmt.Errorf("systemctl %s: %w: %s", args[0], err, said)
		}
		return "", fmt.Errorf("systemctl %s: %w", args[0], err)
	}
	return out.String(), nil
}
