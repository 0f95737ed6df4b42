package services

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Kafka comes as the jars of its Maven artifacts.
const (
	kafkaVersion  = "4.3.0"
	kafkaMinJars  = 80 // 92 at the time of writing; transitive versions may move a few
	kafkaCoreJar  = "kafka_2.13-" + kafkaVersion + ".jar"
	kafkaToolsJar = "kafka-tools-" + kafkaVersion + ".jar"
)

const kafkaPOM = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>fhir-cdc.test</groupId>
  <artifactId>kafka</artifactId>
  <version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>` + kafkaVersion + `</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>` + kafkaVersion + `</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.1</version></dependency>
  </dependencies>
</project>
`

// kafkaLibs returns the folder of Kafka's jars, downloading them the first time.
func kafkaLibs(ctx context.Context, progress func(string)) (string, error) {
	if err := serverPackages(); err != nil {
		return "", err
	}
	check := func(dir string) error {
		jars, err := filepath.Glob(filepath.Join(dir, "libs", "*.jar"))
		if err == nil && len(jars) < kafkaMinJars {
			err = fmt.Errorf("%d jars, want at least %d", len(jars), kafkaMinJars)
		}
		for _, jar := range []string{kafkaCoreJar, kafkaToolsJar} {
			_, missing := os.Stat(filepath.Join(dir, "libs", jar))
			err = errors.Join(err, missing)
		}
		return err
	}
	dir, err := install(ctx, "kafka-"+kafkaVersion, check, func(ctx context.Context, dir string) error {
		if _, err := exec.LookPath("mvn"); err != nil {
			return unavailable("mvn is missing (Debian package maven)")
		}
		if err := os.WriteFile(filepath.Join(dir, "pom.xml"), []byte(kafkaPOM), 0o600); err != nil {
			return err
		}
		progress("downloading Kafka " + kafkaVersion + " (54 MB, once)")
		// A local repository of its own: the user's may not be writable, and would
		// keep every jar a second time.
		repository := filepath.Join(dir, "repository")
		err := runTool(ctx, dir, "mvn", "-q", "-B", "-Dstyle.color=never", "-Dmaven.repo.local="+repository,
			"dependency:copy-dependencies", "-DoutputDirectory=libs")
		return errors.Join(err, os.RemoveAll(repository))
	})
	if err != nil {
		return "", fmt.Errorf("get Kafka %s: %w", kafkaVersion, err)
	}
	return filepath.Join(dir, "libs"), nil
}
