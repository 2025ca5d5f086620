"""Phase diagrams of loss landscapes."""
