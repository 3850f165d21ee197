import Architecture
import Files

extension LoRAAdapter {
  /// A matrix that an update changes.
  package struct Place: Equatable, Sendable {
    package let module: ModuleID
    /// The row of B for each of the matrix's rows; −1: none.
    package let rows: [Int]
  }

  /// Matrices of a model that the update of a module changes. A module of one layout of queries, keys and values is found in the
  /// other: the fused matrix has the rows of all three.
  /// - Parameters:
  ///   - base: the base model's path, for errors.
  ///   - shape: of a matrix that the base model has; nil: it has none.
  /// - Throws: ``AdapterError`` when there is no such matrix, or one of another shape.
  package func places(
    of module: String, _ update: Update, in configuration: ModelConfiguration, base: String,
    shape: (ModuleID) -> [Int]?
  ) throws -> [Place] {
    let index = TensorIndex(configuration)
    func fail(_ reason: AdapterError.Reason) -> AdapterError {
      AdapterError(reason, path: path, tensor: module)
    }
    func checked(_ id: ModuleID, _ shape: [Int], _ rows: [Int], width: Int) throws -> Place {
      guard shape.count == 2, shape[1] == update.shape[1], update.shape[0] == width, rows.count == shape[0]
      else {
        throw fail(
          .updateDoesNotFit(update: update.shape, matrix: index.name(of: TensorID(id)), shape: shape))
      }
      return Place(module: id, rows: rows)
    }
    if let id = index.module(named: module), let found = shape(id) {
      let count = found.first ?? 0
      return [try checked(id, found, Array(0..<count), width: count)]
    }
    guard configuration.family.kind == .decoder else { throw fail(.noModuleInBase(base: base)) }
    let layout = QKVRows(configuration.decoder)
    let total = configuration.decoder.qkvWidth
    if let id = QKVRows.module(named: module, configuration) {
      let fused = ModuleID(.fusedQKV, layer: id.layer)
      if let part = layout.parts.first(where: { $0.kind == id.kind }), let found = shape(fused) {
        var rows = [Int](repeating: -1, count: total)
        for (row, place) in part.ranges.joined().enumerated() { rows[place] = row }
        return [try checked(fused, found, rows, width: part.ranges.joined().count)]
      }
      let parts = layout.parts.compactMap { part in
        let id = ModuleID(part.kind, layer: id.layer)
        return shape(id).map { (id, $0, Array(part.ranges.joined())) }
      }
      if id.kind == .fusedQKV, parts.count == layout.parts.count {
        return try parts.map { try checked($0.0, $0.1, $0.2, width: total) }
      }
    }
    throw fail(.noModuleInBase(base: base))
  }
}
