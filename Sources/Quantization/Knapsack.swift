/// Chooses one of several forms for each of many items, so that they lose least within a budget or take least for a loss: the
/// multiple-choice knapsack problem, solved by dynamic programming over costs.
///
/// Costs are counted in units of their greatest common divisor. As matrices have few different sizes, all of which are multiples of large
/// powers of two, even large models need few units and the solution is exact. Where they would need too many, units are coarser:
/// costs are rounded up, so that a solution keeps to its budget, and a second solution with costs rounded down says how much better the
/// best one could be.
package struct Knapsack: Sendable {
  /// A form that an item can have.
  package struct Choice: Equatable, Sendable {
    package var cost: Int
    package var loss: Double

    package init(cost: Int, loss: Double) {
      self.cost = cost
      self.loss = loss
    }
  }

  package struct Solution: Equatable, Sendable {
    /// For each item the place of its choice.
    package var choices: [Int]
    package var cost: Int
    package var loss: Double
    /// How much the loss, or the cost where the least cost was asked for, may be above the best there is; 0: it is the best.
    package var gap: Double
  }

  /// For each item its choices, at least one.
  package let items: [[Choice]]
  /// Cells of the table that is kept to read a solution from, a byte each.
  private let mostCells: Int

  /// - Precondition: every item has 1 to 256 choices, with costs and losses that are not negative.
  package init(_ items: [[Choice]], mostCells: Int = 1 << 27) {
    precondition(items.allSatisfy { (1...256).contains($0.count) })
    self.items = items
    self.mostCells = mostCells
  }

  /// The least cost there is.
  package var leastCost: Int { items.reduce(0) { $0 + ($1.map(\.cost).min() ?? 0) } }

  /// The cost and the loss of a list of choices.
  package func value(of choices: [Int]) -> (cost: Int, loss: Double) {
    var (cost, loss) = (0, 0.0)
    for (item, choice) in zip(items, choices) {
      cost += item[choice].cost
      loss += item[choice].loss
    }
    return (cost, loss)
  }

  /// The least loss that a budget allows; nil: nothing keeps to it.
  package func leastLoss(budget: Int) -> Solution? {
    guard budget >= leastCost else { return nil }
    let table = Table(items, unit: unit, rounding: .up)
    let choices = table.choices(within: table.units(of: budget))
    let (cost, loss) = value(of: choices)
    guard !table.isExact else { return Solution(choices: choices, cost: cost, loss: loss, gap: 0) }
    let bound = Table(items, unit: unit, rounding: .down)
    let best = bound.losses[bound.units(of: budget)]
    return Solution(choices: choices, cost: cost, loss: loss, gap: max(0, loss - best))
  }

  /// The least cost whose loss is at most `loss`; nil: no choices lose so little.
  package func leastCost(loss most: Double) -> Solution? {
    let table = Table(items, unit: unit, rounding: .up)
    guard let place = table.losses.firstIndex(where: { $0 <= most }) else { return nil }
    let choices = table.choices(within: place)
    let (cost, loss) = value(of: choices)
    guard !table.isExact else { return Solution(choices: choices, cost: cost, loss: loss, gap: 0) }
    let bound = Table(items, unit: unit, rounding: .down)
    let least = bound.losses.firstIndex { $0 <= most } ?? 0
    return Solution(
      choices: choices, cost: cost, loss: loss, gap: Double(max(0, cost - (leastCost + least * bound.unit))))
  }

  /// The greatest common divisor of all differences of costs inside items, or a multiple that makes the table small enough.
  private var unit: Int {
    var divisor = 0
    var range = 0
    for item in items {
      let least = item.map(\.cost).min() ?? 0
      for choice in item { divisor = Knapsack.commonDivisor(divisor, choice.cost - least) }
      range += (item.map(\.cost).max() ?? 0) - least
    }
    divisor = max(1, divisor)
    // Rounding up may take a unit more for each item.
    let cells = max(1, mostCells / max(1, items.count) - items.count - 1)
    let multiple = (range / divisor + cells - 1) / cells
    return divisor * max(1, multiple)
  }

  private static func commonDivisor(_ a: Int, _ b: Int) -> Int {
    var (a, b) = (a, b)
    while b != 0 { (a, b) = (b, a % b) }
    return a
  }

  /// The least loss for every budget, and the choices that lead to it.
  private struct Table {
    enum Rounding { case up, down }

    let unit: Int
    /// Whether all costs are whole numbers of units.
    let isExact: Bool
    /// `[budget]`, in units above the least cost of all items.
    private(set) var losses: [Double]
    /// `[item][budget]`
    private let taken: [[UInt8]]
    /// `[item][choice]`
    private let costs: [[Int]]
    private let leastCost: Int

    init(_ items: [[Choice]], unit: Int, rounding: Rounding) {
      self.unit = unit
      var isExact = true
      leastCost = items.reduce(0) { $0 + ($1.map(\.cost).min() ?? 0) }
      let costs = items.map { item in
        let least = item.map(\.cost).min() ?? 0
        return item.map { choice in
          let extra = choice.cost - least
          if extra % unit != 0 { isExact = false }
          return rounding == .up ? (extra + unit - 1) / unit : extra / unit
        }
      }
      let most = costs.reduce(0) { $0 + ($1.max() ?? 0) }
      var losses = [Double](repeating: 0, count: most + 1)
      var taken: [[UInt8]] = []
      for (item, costs) in zip(items, costs) {
        // Without their least cost, so that some choice fits every budget. Equal losses go to the cheapest.
        let order = item.indices.sorted { (costs[$0], item[$0].loss, $0) < (costs[$1], item[$1].loss, $1) }
        var next = [Double](repeating: .infinity, count: most + 1)
        var row = [UInt8](repeating: UInt8(order[0]), count: most + 1)
        for choice in order where costs[choice] <= most {
          let (cost, loss) = (costs[choice], item[choice].loss)
          for budget in cost...most where losses[budget - cost] + loss < next[budget] {
            next[budget] = losses[budget - cost] + loss
            row[budget] = UInt8(choice)
          }
        }
        losses = next
        taken.append(row)
      }
      self.losses = losses
      self.taken = taken
      self.costs = costs
      self.isExact = isExact
    }

    /// The place of a budget; of one above all, the last.
    func units(of budget: Int) -> Int { min(losses.count - 1, max(0, (budget - leastCost) / unit)) }

    func choices(within budget: Int) -> [Int] {
      var left = budget
      var choices = [Int](repeating: 0, count: taken.count)
      for item in taken.indices.reversed() {
        let choice = Int(taken[item][left])
        choices[item] = choice
        left -= costs[item][choice]
      }
      return choices
    }
  }
}
