import CKernels
import Foundation

/// An instruction set the kernels are written for.
package enum InstructionSet: String, CaseIterable, Sendable {
  case scalar, avx2, avx512, neon

  var code: zn_isa {
    switch self {
    case .scalar: ZN_ISA_SCALAR
    case .avx2: ZN_ISA_AVX2
    case .avx512: ZN_ISA_AVX512
    case .neon: ZN_ISA_NEON
    }
  }

  /// Those that this machine (CPU and operating system) can run; `scalar` is always among them.
  package static var runnable: [InstructionSet] { allCases.filter { zn_kernels_for($0.code) != nil } }
}

/// The kernel table in use. Every table gives the same bits; they differ in speed only.
package struct Kernels: @unchecked Sendable {
  package let table: UnsafePointer<zn_kernels>

  /// The table of one instruction set, or nil when this machine cannot run it.
  package init?(for isa: InstructionSet) {
    guard let table = zn_kernels_for(isa.code) else { return nil }
    self.table = table
  }

  private init(table: UnsafePointer<zn_kernels>) { self.table = table }

  /// The fastest table this machine can run, or the one `ZHINAO_ISA` names.
  package static let best = Kernels(table: zn_kernels_best())

  /// False when `ZHINAO_ISA` asks for something this machine cannot run; commands refuse to start then.
  package static var requestIsRunnable: Bool { zn_kernels_requested() != nil }

  package var name: String { String(cString: table.pointee.name) }
}
