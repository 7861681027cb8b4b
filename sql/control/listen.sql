-- Hears of changes sooner. What is told there is not believed.
listen cloison;
