import Quantization
import Testing

@Suite struct KnapsackTests {
  /// Numbers that are the same in every run.
  private struct Numbers {
    var state: UInt64
    mutating func next(below bound: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((state >> 33) % UInt64(bound))
    }
  }

  private static func random(_ seed: UInt64, items: Int, unit: Int) -> Knapsack {
    var numbers = Numbers(state: seed)
    return Knapsack(
      (0..<items).map { _ in
        (0..<1 + numbers.next(below: 4)).map { _ in
          Knapsack.Choice(
            cost: unit * (1 + numbers.next(below: 9)), loss: Double(numbers.next(below: 1000)) / 8)
        }
      })
  }

  /// Every list of choices.
  private static func all(_ items: [[Knapsack.Choice]]) -> [[Int]] {
    items.reduce([[]]) { lists, item in lists.flatMap { list in item.indices.map { list + [$0] } } }
  }

  @Test(arguments: 0..<40)
  func theBestIsFound(seed: Int) throws {
    let knapsack = Self.random(UInt64(seed), items: 5, unit: seed % 2 == 0 ? 1 : 12)
    let values = Self.all(knapsack.items).map { knapsack.value(of: $0) }
    let costs = values.map(\.cost)
    for budget in stride(from: 0, through: (costs.max() ?? 0) + 7, by: 5) {
      let best = values.filter { $0.cost <= budget }.map(\.loss).min()
      let found = knapsack.leastLoss(budget: budget)
      #expect(found?.loss == best)
      guard let found else { continue }
      #expect(found.cost <= budget && found.gap == 0)
      #expect(knapsack.value(of: found.choices) == (found.cost, found.loss))
    }
    for loss in stride(from: 0.0, through: 600, by: 37.5) {
      let best = values.filter { $0.loss <= loss }.map(\.cost).min()
      let found = knapsack.leastCost(loss: loss)
      #expect(found?.cost == best)
      if let found { #expect(found.loss <= loss && found.gap == 0) }
    }
    #expect(knapsack.leastCost == costs.min())
  }

  /// With too little memory for a table in units of the common divisor the choice keeps to its budget, and the best is within the gap.
  @Test(arguments: 0..<20)
  func aCoarseTableSaysHowGoodItIs(seed: Int) throws {
    let items = Self.random(UInt64(seed), items: 6, unit: 1).items.map { item in
      item.map { Knapsack.Choice(cost: $0.cost * 1009 + Int($0.loss), loss: $0.loss) }
    }
    let (exact, coarse) = (Knapsack(items), Knapsack(items, mostCells: 6 * 64))
    for budget in stride(from: exact.leastCost, to: exact.leastCost + 40_000, by: 1777) {
      let (best, found) = (exact.leastLoss(budget: budget), coarse.leastLoss(budget: budget))
      let (a, b) = (try #require(best), try #require(found))
      #expect(a.gap == 0 && b.cost <= budget && a.loss <= b.loss && b.loss - a.loss <= b.gap + 1e-9)
    }
    for loss in [10.0, 100, 200, 300] {
      guard let a = exact.leastCost(loss: loss), let b = coarse.leastCost(loss: loss) else { continue }
      #expect(b.loss <= loss && a.cost <= b.cost && Double(b.cost - a.cost) <= b.gap)
    }
  }

  @Test func nothingKeepsToABudgetBelowTheLeastCost() {
    let knapsack = Knapsack([[.init(cost: 4, loss: 1), .init(cost: 8, loss: 0)]])
    #expect(knapsack.leastLoss(budget: 3) == nil)
    #expect(knapsack.leastLoss(budget: .max)?.choices == [1])
    #expect(knapsack.leastCost(loss: -1) == nil)
    #expect(Knapsack([]).leastLoss(budget: 0)?.choices == [])
  }
}
