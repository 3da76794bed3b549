"""../shared/data/mm_tweet_sentiment: tweets with a picture and one of three sentiments. For reports only."""
