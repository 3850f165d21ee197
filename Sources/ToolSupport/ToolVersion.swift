/// The toolchain's version, shown by `--version` and written into every output's provenance.
package enum ToolVersion {
  package static let current = "0.1.0"
  package static let generator = "zhinao-toolchain \(current)"
}
