"""What drivers, and the applications behind them, see of a transaction that pgleash has rolled back."""
