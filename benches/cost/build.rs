//! A real build, inside against outside.

use crate::host::{Host, time};
use crate::table::{Row, median, milliseconds, paired};
use std::fmt::Write as _;

const PAIRS: usize = 7;

pub fn measure(host: &Host, files: usize) -> Vec<Row> {
    let project = project(host, files);
    // What root owns is shown as a copy: no job ever writes as root.
    let mode = if host.as_root() { ":copy" } else { "" };
    let workspace = format!("{}{mode}", project.display());
    let clean = || {
        let mut command = host.command("/usr/bin/make");
        command.args(["-s", "clean"]).current_dir(&project);
        time(&mut command);
    };
    let outside = || {
        clean();
        let mut command = host.command("/usr/bin/make");
        command.args(["-s", "-j2"]).current_dir(&project);
        milliseconds(time(&mut command))
    };
    let inside = || {
        clean();
        milliseconds(time(
            &mut host.cofferdam(&["run", "-w", &workspace, "--", "make", "-s", "-j2"]),
        ))
    };
    // The first of each warms the page cache.
    let (_, _) = (outside(), inside());
    let (a, b): (Vec<f64>, Vec<f64>) = (0..PAIRS)
        .map(|round| {
            // Who goes first changes, so that a trend of the host cancels out.
            if round % 2 == 0 {
                let inside = inside();
                (inside, outside())
            } else {
                let outside = outside();
                (inside(), outside)
            }
        })
        .unzip();
    vec![Row {
        what: format!("`make -j2` of {files} C files inside against outside"),
        measured: format!("{:.3}", paired(&a, &b)),
        must: "≤ 1.03",
        aim: "≤ 1.01",
        from: format!("{:.2} s, {:.2} s", median(&a) / 1000.0, median(&b) / 1000.0),
    }]
}

/// A program of this many files that include what real ones do.
fn project(host: &Host, files: usize) -> std::path::PathBuf {
    let project = host.make("project", 0o755);
    let mut main = String::from("#include <stdio.h>\n");
    for file in 0..files {
        let text = format!(
            "#include <errno.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n\
             int work{file}(const char *text, int times) {{\n    char buffer[256];\n    int sum = {file};\n    \
             for (int i = 0; i < times; i++) {{\n        snprintf(buffer, sizeof buffer, \"%s-%d\", text, i);\n        \
             sum += (int)strlen(buffer) ^ buffer[i % 7];\n    }}\n    return sum;\n}}\n"
        );
        host.write(&format!("project/work{file}.c"), &text);
        writeln!(main, "int work{file}(const char *, int);").unwrap();
    }
    main.push_str("int main(void) {\n    int sum = 0;\n");
    for file in 0..files {
        writeln!(main, "    sum += work{file}(\"x\", 3);").unwrap();
    }
    main.push_str("    printf(\"%d\\n\", sum);\n    return 0;\n}\n");
    host.write("project/main.c", &main);
    host.write(
        "project/Makefile",
        "OBJECTS = $(patsubst %.c,%.o,$(wildcard *.c))\nCFLAGS = -O1\nprogram: $(OBJECTS)\n\t$(CC) -o $@ $^\n\
         clean:\n\trm -f program *.o\n",
    );
    project
}
