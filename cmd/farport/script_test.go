//go:build unix

package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/farportio/farport/internal/hubtest"
)

// scriptWait bounds every wait in a script; reaching it is a failure.
const scriptWait = 20 * time.Second

// transcript is the variable that names the file for what farport prints.
const transcript = "TRANSCRIPT"

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"farport": func() { os.Exit(start(os.Args[1:], transcribed())) }})
}

// transcribed are the process's streams, with a copy of all that nobody's secret
// belongs in: standard error always, standard output unless it was asked for keys.
func transcribed() streams {
	s := streams{os.Stdin, os.Stdout, os.Stderr}
	path := os.Getenv(transcript)
	if path == "" {
		return s
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	s.err = io.MultiWriter(os.Stderr, f)
	asked := slices.ContainsFunc(os.Args, func(arg string) bool {
		return slices.Contains([]string{"create", "connection-string", "--show-keys", "--stdio"}, arg)
	})
	if !asked {
		s.out = io.MultiWriter(os.Stdout, f)
	}
	return s
}

func TestScripts(t *testing.T) { runScripts(t, "testdata/script") }

// runScripts runs the scripts in a folder, each as a test.
func runScripts(t *testing.T, dir string) {
	echo := hubtest.Echo(t)
	completions, err := filepath.Abs("../../completions")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(env *testscript.Env) error {
			env.Setenv("ECHO", echo)
			env.Setenv("COMPLETIONS", completions)
			env.Setenv("TAB", os.Getenv("TAB")) // which shell's key
			_, port, err := net.SplitHostPort(echo)
			if err != nil {
				return err
			}
			env.Setenv("ECHO_PORT", port)
			env.Setenv("XDG_DATA_HOME", filepath.Join(env.WorkDir, "data"))
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(env.WorkDir, "config"))
			env.Setenv(transcript, filepath.Join(env.WorkDir, ".transcript"))
			env.Values[jobsKey{}] = make(map[string]*job)
			env.Defer(func() { checkTranscript(t, env.WorkDir) })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": scriptExits,
			"run":   scriptRun,
			"await": scriptAwait,
			"end":   scriptEnd,
			"hub":   scriptHub,
			"read":  scriptRead,
			"tab":   scriptTab,

			"offered": scriptOffered,

			"certificate": scriptCertificate,
		},
		Condition: func(name string) (bool, error) {
			if name == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
	})
}

// checkTranscript fails the test when a key that lies in a script's folder was
// printed by any of its commands.
func checkTranscript(t *testing.T, dir string) {
	printed, err := os.ReadFile(filepath.Join(dir, ".transcript"))
	if errors.Is(err, fs.ErrNotExist) {
		return // farport never ran
	}
	if err != nil {
		t.Error(err)
	}
	key := regexp.MustCompile(`SharedAccessKey=([^;\s]{8,})`)
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".conn" && filepath.Base(filepath.Dir(path)) != "connection-strings" {
			return nil // what a script has made unreadable holds no keys
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, found := range key.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(string(printed), found[1]) {
				t.Errorf("the key in %s was printed", filepath.Base(path))
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// scriptExits is "exits CODE PROGRAM ARG...": it runs a program that has to end with
// that code.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		e, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = e.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// job is a program in the background. What it prints is in NAME.log and NAME.out.
type job struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// jobsKey finds a script's jobs by their names.
type jobsKey struct{}

func jobs(ts *testscript.TestScript) map[string]*job { return ts.Value(jobsKey{}).(map[string]*job) }

// scriptRun is "run NAME ARG...": it starts farport in the background.
func scriptRun(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: run NAME ARG...")
	}
	name := args[0]
	cmd := exec.Command(lookPath(ts, "farport"), args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, v := range []string{"PATH", "HOME", "TMPDIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME", transcript, "FARPORT_DATA_DIR", "FARPORT_HUB",
		"PROXY_PORT", "STREAMING_TARGET_DEVICE", "REMOTE_HOST_NAME", "REMOTE_PORT"} {
		if value := ts.Getenv(v); value != "" {
			cmd.Env = append(cmd.Env, v+"="+value)
		}
	}
	log, err := os.Create(ts.MkAbs(name + ".log"))
	ts.Check(err)
	out, err := os.Create(ts.MkAbs(name + ".out"))
	ts.Check(err)
	cmd.Stdout, cmd.Stderr = out, log
	ts.Check(cmd.Start())
	j := &job{cmd, make(chan struct{})}
	go func() {
		defer close(j.done)
		_ = cmd.Wait() // what matters of it is in ProcessState
		_, _ = log.Close(), out.Close()
	}()
	jobs(ts)[name] = j
	ts.Defer(func() {
		_ = cmd.Process.Kill() // most have ended
		<-j.done
	})
}

func lookPath(ts *testscript.TestScript, program string) string {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, program)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	ts.Fatalf("%s is not in PATH", program)
	return ""
}

// scriptAwait is "await NAME REGEXP [VAR...]": it waits until the job's standard
// error matches, and sets the variables to the groups of the match.
func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await NAME REGEXP [VAR...]")
	}
	pattern := regexp.MustCompile("(?m)" + args[1])
	j := jobs(ts)[args[0]]
	ctx, cancel := context.WithTimeout(context.Background(), scriptWait)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for ended := false; ; {
		log := ts.ReadFile(args[0] + ".log")
		if found := pattern.FindStringSubmatch(log); found != nil {
			for i, name := range args[2:] {
				ts.Setenv(name, found[i+1])
			}
			return
		}
		if ended || ctx.Err() != nil {
			ts.Fatalf("%s did not say %q: %s", args[0], args[1], log)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		case <-j.done:
			ended = true
		}
	}
}

// scriptEnd is "end NAME SIGNAL CODE": it sends the signal, if any, and waits for the
// job to end with that code.
func scriptEnd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: end NAME INT|TERM|HUP|none CODE")
	}
	j := jobs(ts)[args[0]]
	signals := map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP}
	if args[1] != "none" {
		ts.Check(j.cmd.Process.Signal(signals[args[1]]))
	}
	select {
	case <-j.done:
	case <-time.After(scriptWait):
		ts.Fatalf("%s still runs", args[0])
	}
	if got := strconv.Itoa(j.cmd.ProcessState.ExitCode()); got != args[2] {
		ts.Fatalf("%s ended with %s, want %s: %s", args[0], got, args[2], ts.ReadFile(args[0]+".log"))
	}
}

// scriptHub is "hub start [DEVICE...]": it runs a hub and registers the devices. $HUB
// is the hub's address, FARPORT_DATA_DIR its data dir, DEVICE.conn has a device's
// connection string. "hub stop" stops it.
func scriptHub(ts *testscript.TestScript, neg bool, args []string) {
	switch {
	case len(args) > 0 && args[0] == "start":
		ts.Setenv("FARPORT_DATA_DIR", ts.MkAbs("hub"))
		scriptRun(ts, false, []string{"hub", "serve", "--listen", "127.0.0.1:0", "--mqtt-listen", "off", "--shutdown-grace", "0"})
		scriptAwait(ts, false, []string{"hub", `^farport: hub ready https://(.*)$`, "HUB"})
		for _, id := range args[1:] {
			ts.Check(ts.Exec("farport", "device", "create", id))
			ts.Check(ts.Exec("farport", "device", "connection-string", id))
			ts.Check(os.WriteFile(ts.MkAbs(id+".conn"), []byte(ts.ReadFile("stdout")), 0o600))
		}
	case len(args) == 1 && args[0] == "stop":
		scriptEnd(ts, false, []string{"hub", "TERM", "0"})
	default:
		ts.Fatalf("usage: hub start [DEVICE...] or hub stop")
	}
}

// scriptRead is "read VAR FILE": it sets a variable to what the file says.
func scriptRead(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: read VAR FILE")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}

// scriptCertificate is "certificate NAME ca|self|expired|CA CN": it writes NAME.pem and
// NAME.key, a CA's, a leaf signed by itself, one that has expired, or one that CA.pem
// and CA.key have signed. $THUMBPRINT is its SHA-256 as openssl prints it.
func scriptCertificate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: certificate NAME ca|self|expired|CA CN")
	}
	name, by, template := ts.MkAbs(args[0]), args[1], leafTemplate(args[2])
	var issuer *tls.Certificate
	switch by {
	case "ca":
		template = caTemplate(args[2])
	case "self":
	case "expired":
		template.NotBefore, template.NotAfter = time.Unix(0, 0), time.Unix(1_000_000_000, 0)
	default:
		pair, err := tls.LoadX509KeyPair(ts.MkAbs(by+".pem"), ts.MkAbs(by+".key"))
		ts.Check(err)
		issuer = &pair
	}
	pair, err := issue(name, template, issuer)
	ts.Check(err)
	sum := sha256.Sum256(pair.Certificate[0])
	ts.Setenv("THUMBPRINT", strings.ReplaceAll(fmt.Sprintf("% X", sum), " ", ":"))
}
